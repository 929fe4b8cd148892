"""Scoring meta-parameters on the tasks that an experiment names, shared by workers where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mamlcli.build import Experiment
from mamlcli.distributed import ALONE, WorkerGroup
from mamlcli.estimators import MetaParams
from mamlcli.evaluation import Evaluation, evaluate, join_evaluations
from mamlcli.recipe import Recipe

# Meta-validation draws its tasks from a stream of its own: those that choose the weights are never those scored.
SELECTION_STREAM = "selection"


@dataclass(frozen=True)
class ScoredTasks:
    """Which tasks meta-parameters are scored on, and how.

    Attributes:
        split: the split that they are drawn from.
        num_tasks: tasks.
        num_steps: inner steps; None for those of training.
        stream: names the stream of tasks; None for that of the split's own name.
        with_references: whether floors and baselines are scored too.
    """

    split: str
    num_tasks: int
    num_steps: int | None = None
    stream: str | None = None
    with_references: bool = True


def validation_tasks(recipe: Recipe) -> ScoredTasks:
    """Return the tasks of meta-validation."""
    return ScoredTasks("validation", recipe.validation.tasks, stream=SELECTION_STREAM, with_references=False)


def evaluation_tasks(recipe: Recipe) -> ScoredTasks:
    """Return the tasks of the final evaluation."""
    spec = recipe.evaluation
    return ScoredTasks(spec.split, spec.tasks, spec.steps or recipe.inner.steps)


def score(
    experiment: Experiment, metas: Sequence[MetaParams], tasks: ScoredTasks, group: WorkerGroup = ALONE
) -> list[Evaluation]:
    """Score the meta-parameters of one run or several, all on the same tasks, drawn by `evaluation.seed`.

    Workers score a share of the tasks each; all of them return the whole.
    """
    share = group.share(tasks.num_tasks)
    mine: list[Evaluation] | None = None
    if share:
        mine = evaluate(
            experiment.objective(tasks.num_steps),
            metas,
            experiment.distributions[tasks.split],
            stream=tasks.stream or tasks.split,
            seed=experiment.recipe.evaluation.seed,
            num_tasks=tasks.num_tasks,
            execution=experiment.execution(num_tasks=len(share) * len(metas), num_steps=0),
            with_references=tasks.with_references,
            share=share,
        )
    parts = [part for part in group.gather(mine) if part is not None]
    return parts[0] if len(parts) == 1 else [join_evaluations(list(of_run)) for of_run in zip(*parts, strict=True)]


def validation_scores(evaluation: Evaluation) -> tuple[float, float | None]:
    """Return (loss, accuracy or None) after the last inner step, means over the tasks."""
    accuracy = evaluation.estimate("query_accuracy", -1).mean if evaluation.is_classification else None
    return evaluation.estimate("query_loss", -1).mean, accuracy


def score_at_end(experiment: Experiment, metas: Sequence[MetaParams], group: WorkerGroup = ALONE) -> list[Evaluation]:
    """Score the meta-parameters of worker 0 as `evaluation` in the recipe says; the others give none."""
    if group.place is not None:
        told = group.broadcast([{name: value.cpu() for name, value in meta.flat().items()} for meta in metas])
        flats = [{name: value.to(experiment.device) for name, value in flat.items()} for flat in told]
        metas = [MetaParams.from_flat(flat) for flat in flats]
    return score(experiment, metas, evaluation_tasks(experiment.recipe), group)
