"""Scores meta-parameters on the tasks that an experiment names, and writes the result of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mamlcli.common.disk import write_error
from mamlcli.common.statistics import Score, estimate, interval_note
from mamlcli.engine.evaluation import Evaluation, Reference, evaluate, join_evaluations
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.sharing import ALONE, WorkerGroup
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ClassKeys, ways_of
from mamlcli.runs.curve_figure import save_curve
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.manifest import FINISHED
from mamlcli.runs.models import label_of
from mamlcli.runs.report import Point, Protocol, RunReport, Scores
from mamlcli.training.experiment import Experiment
from mamlcli.training.given_record import path_notes

# Meta-validation draws its tasks from a stream of its own: those that choose the weights are never those scored.
SELECTION_STREAM = "selection"

# Training draws from the stream "train", keyed by the run's seed; with an equal `evaluation.seed` its first
# meta-batch would be scored.
_TRAIN_SCORED_STREAM = "train scored"

# Ends the words for the weights of a result where meta-validation chose them on the classes that are scored.
CHOSEN_HERE = ", chosen on other tasks of these classes"


@dataclass(frozen=True)
class ScoredTasks:
    """Which tasks meta-parameters are scored on, and how.

    Attributes:
        split: the split that they are drawn from.
        num_tasks: tasks.
        num_steps: inner steps; None for those of training.
        stream: names the stream of tasks; None for that of `evaluation_stream`.
        with_references: whether floors and baselines are scored too.
        with_probe: whether the linear probe on features is one of them.
    """

    split: str
    num_tasks: int
    num_steps: int | None = None
    stream: str | None = None
    with_references: bool = True
    with_probe: bool = True


def evaluation_stream(split: str) -> str:
    """Return the name of the stream that a split's scored tasks are drawn from; never that of training."""
    return _TRAIN_SCORED_STREAM if split == "train" else split


def validation_tasks(recipe: Recipe) -> ScoredTasks:
    """Return the tasks of meta-validation."""
    return ScoredTasks(recipe.validation_split, recipe.validation.tasks, stream=SELECTION_STREAM, with_references=False)


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
            experiment.scoring_objective(tasks.num_steps),
            metas,
            experiment.distributions[tasks.split],
            stream=tasks.stream or evaluation_stream(tasks.split),
            seed=experiment.recipe.evaluation.seed,
            num_tasks=tasks.num_tasks,
            execution=experiment.execution(num_tasks=len(share) * len(metas), num_steps=0),
            with_references=tasks.with_references,
            with_probe=tasks.with_probe,
            share=share,
        )
    parts = [part for part in group.gather(mine) if part is not None]
    return parts[0] if len(parts) == 1 else [join_evaluations(list(of_run)) for of_run in zip(*parts, strict=True)]


def score_each(
    experiments: Sequence[Experiment], metas: Sequence[MetaParams], tasks: ScoredTasks, group: WorkerGroup = ALONE
) -> list[Evaluation]:
    """Score each run on the tasks of its own `evaluation.seed`; runs that have the same one are scored at once.

    Args:
        experiments: of the runs, alike but for `seed` and `evaluation.seed`.
        metas: of each run.
        tasks: to score them on.
        group: workers that share the tasks of one run.
    """
    by_seed: dict[int, list[int]] = {}
    for index, experiment in enumerate(experiments):
        by_seed.setdefault(experiment.recipe.evaluation.seed, []).append(index)
    evaluations: dict[int, Evaluation] = {}
    for indices in by_seed.values():
        of_seed = score(experiments[indices[0]], [metas[index] for index in indices], tasks, group)
        evaluations |= dict(zip(indices, of_seed, strict=True))
    return [evaluations[index] for index in range(len(experiments))]


def validation_scores(evaluation: Evaluation) -> tuple[float, float | None]:
    """Return (loss, accuracy or None) after the last inner step, means over the tasks."""
    accuracy = evaluation.estimate("query_accuracy", -1).mean if evaluation.is_classification else None
    return evaluation.estimate("query_loss", -1).mean, accuracy


def score_at_end(
    experiments: Sequence[Experiment],
    metas: Sequence[MetaParams],
    group: WorkerGroup = ALONE,
    *,
    with_probe: bool = True,
) -> list[Evaluation]:
    """Score the meta-parameters of worker 0 as `evaluation` in each recipe says; the others give none."""
    if group.place is not None:
        of_worker_0 = group.broadcast([{name: value.cpu() for name, value in meta.flat().items()} for meta in metas])
        flats = [{name: value.to(experiments[0].device) for name, value in flat.items()} for flat in of_worker_0]
        metas = [MetaParams.from_flat(flat) for flat in flats]
    tasks = replace(evaluation_tasks(experiments[0].recipe), with_probe=with_probe)
    return score_each(experiments, metas, tasks, group)


def finished_result(run: RunDirectory) -> RunReport | None:
    """Return the result of a run that is already done, or None."""
    is_finished = run.manifest.get("status") in FINISHED
    return run.read_report() if is_finished else None


def protocol_of(recipe: Recipe, *, split: str, num_tasks: int, num_steps: int) -> Protocol:
    """Return what must agree before the numbers of two evaluations may be compared."""
    tasks, norm = recipe.scored_tasks, getattr(recipe.model, "norm", "none")
    ways = ways_of(tasks)
    return Protocol(
        split=split,
        num_tasks=num_tasks,
        ways=ways,
        shots=tasks.shots,
        queries=tasks.queries,
        per_class=isinstance(tasks, ClassKeys),
        inner_steps=num_steps,
        batch_norm=norm,
        batch_norm_statistics=recipe.evaluation.batch_norm if norm == "batch" else None,
        seed=recipe.evaluation.seed,
    )


def write_evaluation(folder: Path, evaluation: Evaluation, report: RunReport) -> None:
    """Write the scores of all tasks, the figure of their curve and the report of an evaluation to a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        result = RunDirectory(folder)
        result.check_writable()
        result.write_scores(evaluation.scores)
        save_curve(report, result.curve_path)
        result.write_report(report)
    except OSError as error:
        raise write_error(error, str(folder), expected="a folder that can be written") from error


def evaluation_report(
    run: RunDirectory,
    experiment: Experiment,
    evaluation: Evaluation,
    weights: str,
    *,
    split: str,
    num_steps: int,
) -> RunReport:
    """Return the result of a run from an evaluation of its weights."""
    num_tasks, recipe = len(evaluation.scores), experiment.recipe
    is_of_images = isinstance(recipe.tasks, ClassKeys)  # synthetic splits have no classes of their own
    if is_of_images and split == recipe.validation_split and weights.startswith("best"):
        weights += CHOSEN_HERE
    return RunReport(
        run=label_of(run.path),
        recipe=run.name,
        weights=weights,
        protocol=protocol_of(recipe, split=split, num_tasks=num_tasks, num_steps=num_steps),
        curve=curve_of(evaluation),
        references={name: _reference_scores(reference) for name, reference in evaluation.references.items()},
        chance_accuracy=evaluation.chance_accuracy,
        notes=(*notes_on(evaluation), *path_notes(experiment.objective())),
    )


def notes_on(evaluation: Evaluation) -> tuple[str, ...]:
    """Return what to know of the final scores: intervals that hold less often than they say, doubtful references."""
    columns = {"Query loss": "query_loss", "Query accuracy": "query_accuracy"}
    if not evaluation.is_classification:
        del columns["Query accuracy"]
    notes = [
        interval_note(evaluation.column(column, -1), words, is_fraction=column == "query_accuracy")
        for words, column in columns.items()
    ]
    for name, reference in evaluation.references.items():
        if reference.doubtful is not None and reference.doubtful.any():
            num = f"{int(reference.doubtful.sum())} of {len(reference.doubtful)} tasks"
            notes.append(f"{name}: sampling did not converge for {num}; its loss there is likely too high.")
    return tuple(note for note in notes if note)


def curve_of(evaluation: Evaluation) -> tuple[Point, ...]:
    """Return the means over tasks, with their intervals, at every inner step."""
    columns = {"loss": "query_loss", "support_loss": "support_loss"}
    if evaluation.is_classification:
        columns |= {"accuracy": "query_accuracy", "support_accuracy": "support_accuracy"}
    return tuple(
        Point(step, Scores(**{key: Score.of(evaluation.estimate(name, step)) for key, name in columns.items()}))
        for step in range(evaluation.num_inner_steps + 1)
    )


def _reference_scores(reference: Reference) -> Scores:
    columns = {"loss": reference.loss, "accuracy": reference.accuracy}
    return Scores(**{key: Score.of(estimate(values)) for key, values in columns.items() if values is not None})
