"""Scores a trained run again: on other tasks, with more inner steps, on another split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mamlcli.common.errors import MamlError
from mamlcli.common.names import PATH_KEY
from mamlcli.engine.evaluation import Evaluation
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import RunReport
from mamlcli.training.scoring import ScoredTasks, evaluation_report, score
from mamlcli.training.trained import num_inner_steps, open_trained, recipe_elsewhere


def protocol_words(words: Sequence[str], *, where: str) -> list[str]:
    """Return words KEY=VALUE once each is a key of evaluation, or tasks.path."""
    for word in words:
        key = word.partition("=")[0].strip()
        if not key.startswith("evaluation.") and key != PATH_KEY:
            raise MamlError(where, expected=f"keys of evaluation, or {PATH_KEY}", got=repr(key))
    return list(words)


def adapt_run(
    run: RunDirectory,
    *,
    device: str | None = None,
    num_tasks: int | None = None,
    num_steps: int | None = None,
    split: str | None = None,
    changes: Sequence[str] = (),
) -> tuple[Evaluation, RunReport]:
    """Score a trained run again; what is not given is as its recipe says.

    Args:
        run: it has a checkpoint.
        device: see `execution.device`.
        num_tasks, num_steps, split: see `evaluation`.
        changes: words `evaluation.KEY=VALUE`: keys of its recipe that are otherwise here; and `tasks.path=PLACE`, where
            its data are now.

    Returns:
        The evaluation and the result that it makes.

    Raises:
        RunError: the run has no checkpoint, or at `tasks.path` are other data; MamlError: a bad key, split or device.
    """
    recipe = recipe_elsewhere(run, where="mamlcli adapt", device=device, split=split, changes=changes)
    split, steps = recipe.evaluation.split, num_inner_steps(recipe, num_steps)
    trained = open_trained(run, recipe, splits=(split,))
    num_tasks = num_tasks or recipe.evaluation.tasks
    [evaluation] = score(trained.experiment, [trained.meta], ScoredTasks(split, num_tasks, steps))
    report = evaluation_report(run, trained.experiment, evaluation, trained.weights, split=split, num_steps=steps)
    recorded, digest = run.manifest.data_digest, trained.experiment.data_digest
    if recorded not in (None, digest):
        note = f"Scored on other data (digest {digest}) than it was trained on (digest {recorded})."
        report = replace(report, notes=(*report.notes, note))
    return evaluation, report
