"""One run from start to end: build, engine, evaluation and run directory; what the command line and sweeps call."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mamlcli.build import Experiment, build, memory_error
from mamlcli.distributed import ALONE, WorkerGroup, share_of
from mamlcli.engine import (
    OuterLoop,
    Record,
    TrainState,
    Validate,
    ValidationRecord,
    Wanted,
    answered,
    new_state,
    restore_state,
    step,
    training,
)
from mamlcli.environment import device_name, git_state, interruption_flag, now, peak_memory_mb, versions
from mamlcli.errors import Interrupted, NonFiniteError, RunError, WorkerError, is_out_of_memory
from mamlcli.estimators import MetaParams
from mamlcli.evaluation import Evaluation, Reference, evaluate_replicas, join_evaluations
from mamlcli.event_log import EventLog, check_event_log, log_evaluation
from mamlcli.execution import Execution, MetaGradient, meta_gradient
from mamlcli.models import count_parameters
from mamlcli.plots import save_curve
from mamlcli.recipe import ImageKeys, Recipe
from mamlcli.recipe_files import recipe_to_tree
from mamlcli.run_report import Point, Protocol, RunReport, Scores
from mamlcli.rundir import RunDirectory
from mamlcli.statistics import Score, estimate
from mamlcli.tasks.base import sample_tasks
from mamlcli.trained import best_weights


@dataclass(frozen=True)
class Progress:
    """What a run tells its caller while it goes on; each may be None.

    Attributes:
        on_start: called once with the experiment, the run and the iteration it starts from.
        on_record: called with every engine record.
        on_evaluation: called before the final evaluation with its number of tasks.
    """

    on_start: Callable[[Experiment, RunDirectory, int], None] | None = None
    on_record: Callable[[Record], None] | None = None
    on_evaluation: Callable[[int], None] | None = None


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        run: its directory.
        report: the content of evaluation.json.
        weights: which checkpoint was scored, in words.
    """

    run: RunDirectory
    report: dict[str, Any]
    weights: str


# Meta-validation draws its tasks from a stream of its own: those that choose the weights are never those scored.
SELECTION_STREAM = "selection"


def splits_of_training(recipe: Recipe) -> tuple[str, ...]:
    """Return the splits that meta-training, meta-validation and the final evaluation use."""
    names = ["train", *(["validation"] if recipe.validation.every else []), recipe.evaluation.split]
    return tuple(dict.fromkeys(names))


def train_run(
    run: RunDirectory,
    experiment: Experiment,
    *,
    argv: list[str],
    progress: Progress | None = None,
    group: WorkerGroup = ALONE,
) -> RunResult:
    """Meta-train and evaluate an experiment in a run directory, from its last checkpoint if it has one.

    Args:
        run: the directory, made for this recipe.
        experiment: built from the run's recipe with `splits_of_training`.
        argv: the command, for the manifest.
        progress: what to call on the way.
        group: workers that share the tasks, of which this is number 0; the others are in `follow_run`.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        NonFiniteError: training diverged; the last good state is saved.
        WorkerError: another worker is gone; the state is saved.
        RunError: the run is in use, damaged, or was trained on other data.
    """
    flag = interruption_flag(second_ends=group.place is None)
    stages = stages_of_run(run, experiment, argv=argv, interruption=flag, progress=progress, group=group)
    answer = _Alone(experiment, group)
    try:
        request = next(stages)
        while True:
            try:
                found = answer(request)
            except BaseException as error:
                request = stages.throw(error)
            else:
                request = stages.send(found)
    except StopIteration as end:
        result: RunResult = end.value
        return result


@dataclass(frozen=True)
class Request:
    """What a run needs next; `stages_of_run` yields it and is sent the answer.

    Attributes:
        kind: "step", answered by what `engine.step` returns; "validation", by (loss, accuracy or None);
            "evaluation", by an `Evaluation`.
        iteration: meta-iterations done.
        meta: the meta-parameters to differentiate or to score.
        how: how the tasks of a meta-batch are run.
        state, outer: of the run; to step, where that is asked.
    """

    kind: str
    iteration: int
    meta: MetaParams
    how: Execution
    state: TrainState
    outer: OuterLoop


class _Alone:
    """Answers what one run needs."""

    def __init__(self, experiment: Experiment, group: WorkerGroup) -> None:
        self._experiment, self._group = experiment, group
        self._functions: tuple[Gradient, Validate | None] | None = None

    def __call__(self, request: Request) -> Any:
        if request.kind == "evaluation":
            return score_at_end(self._experiment, request.meta, self._group)
        if self._functions is None:
            self._functions = training_functions(self._experiment, request.how, self._group)
        gradient, validate = self._functions
        if request.kind == "validation":
            assert validate is not None
            return validate(request.meta)
        return step(request.state, gradient(request.meta, request.iteration), request.outer)


def stages_of_run(
    run: RunDirectory,
    experiment: Experiment,
    *,
    argv: list[str],
    interruption: AbstractContextManager[Callable[[], bool]],
    progress: Progress | None = None,
    group: WorkerGroup = ALONE,
    num_replicas: int = 1,
) -> Generator[Request, Any, RunResult]:
    """Do all of `train_run` but what costs time: that is left to the caller, who may do it for several runs at once.

    Args:
        run, experiment, argv, progress, group: as there.
        interruption: a context that gives a function that says whether to stop.
        num_replicas: runs that are computed together with this one, itself included.

    Yields:
        What the run needs, to be answered by `send`; what fails in the answer is to be thrown in.
    """
    told = progress or Progress()
    check_event_log(experiment.recipe.logging)
    with run.lock():
        state = _state_of(run, experiment)
        how = recorded_execution(run, group.num_workers, num_replicas) if state.iteration else None
        wall_before = float(run.manifest.get("wall_s", 0.0)) if state.iteration else 0.0
        how = how or training_execution(experiment, group.num_workers, num_replicas)
        record = execution_record(experiment, how, group.num_workers, num_replicas)
        _start_manifest(run, experiment, argv, state.iteration, record)
        run.rewind_metrics(state.iteration, state.last_validated)
        if told.on_start:
            told.on_start(experiment, run, state.iteration)
        started = time.monotonic()
        outcome: dict[str, Any] = {"status": "failed"}
        try:
            group.lead(_plan(experiment, state, how), experiment.device)
            with interruption as is_asked:
                is_interrupted = group.agree(is_asked)
                yield from _train_to_end(run, experiment, state, how, is_interrupted, told)
                result = yield from _final_evaluation(run, experiment, state, how, is_interrupted, told)
            outcome = {"status": "stopped early" if state.is_stopped else "done", "finished_at": now()}
            return result
        except BaseException as error:
            is_interruption = isinstance(error, Interrupted | KeyboardInterrupt)
            outcome = {"status": "interrupted" if is_interruption else "failed", "reason": str(error)}
            if is_out_of_memory(error):
                raise memory_error(experiment.recipe, how, error) from error
            raise
        finally:
            run.close()
            run.update_manifest(
                {
                    **outcome,
                    "iterations_done": state.iteration,
                    "wall_s": round(wall_before + time.monotonic() - started, 3),
                    "peak_memory_mb": peak_memory_mb(experiment.device),
                }
            )


def finished_result(run: RunDirectory) -> RunResult | None:
    """Return the result of a run that is already done, or None."""
    manifest = run.manifest
    if manifest.get("status") not in ("done", "stopped early"):
        return None
    report = run.read_report()
    return RunResult(run, report.to_json(), report.weights)


def _state_of(run: RunDirectory, experiment: Experiment) -> TrainState:
    """Return the state of the last checkpoint, or a new one."""
    meta, outer = experiment.initial_meta(), experiment.outer_loop()
    checkpoint = run.load_checkpoint("last")
    if checkpoint is None:
        return new_state(meta, outer)
    try:
        return restore_state(meta, outer, *checkpoint)
    except (KeyError, ValueError) as error:
        raise RunError(str(run.checkpoint_path("last")), expected="the tensors of this recipe's model",
                       got=str(error), next_step="Train again with --force") from error  # fmt: skip


def _train_to_end(
    run: RunDirectory,
    experiment: Experiment,
    state: TrainState,
    how: Execution,
    is_interrupted: Callable[[], bool],
    told: Progress,
) -> Generator[Request, Any, None]:
    """Consume the engine's records: log them, checkpoint, and stop where asked."""
    every = experiment.recipe.outer.checkpoint_every
    events = EventLog(experiment.recipe.logging, run.path, state.iteration, run.read_metrics())
    started = time.monotonic()
    try:
        outer = experiment.outer_loop()
        steps = training(state, outer, with_validation=outer.validate_every is not None)
        for item in steps:
            record = item
            if isinstance(item, Wanted):
                found = yield Request(item.value, state.iteration, state.meta, how, state, outer)
                record = answered(steps, found)
            assert not isinstance(record, Wanted)
            elapsed = round(time.monotonic() - started, 4)
            line = {"kind": _kind(record), **vars(record), "elapsed_s": elapsed}
            run.append_metrics(line)
            events.write(line)
            if isinstance(record, ValidationRecord) and record.is_best:
                best = {"iteration": state.iteration, "score": state.best_score}
                run.save_checkpoint("best", state.params, best)
            if told.on_record:
                told.on_record(record)
            if is_interrupted():
                raise _interruption(run, f"after iteration {state.iteration}")
            if state.iteration % every == 0:
                _checkpoint(run, state)
    except Interrupted:
        _checkpoint(run, state)
        raise
    except NonFiniteError as error:
        _checkpoint(run, state)
        kept = f"The state before it is kept in {run.path / 'checkpoints'}. {error.next_step}"
        raise NonFiniteError(error.where, expected=error.expected, got=error.got, why=error.why,
                             next_step=kept) from error  # fmt: skip
    except WorkerError as error:
        _checkpoint(run, state)
        kept = f"The run is saved after iteration {state.iteration}. Run: mamlcli train --resume --run-dir {run.path}"
        raise WorkerError(error.where, expected=error.expected, got=error.got, why=error.why,
                          next_step=kept) from error  # fmt: skip
    finally:
        events.close()
    _checkpoint(run, state)


def _plan(experiment: Experiment, state: TrainState, how: Execution) -> dict[str, Any]:
    """Return what other workers need to know to do the same."""
    return {
        "recipe": recipe_to_tree(experiment.recipe),
        "device": experiment.device.type,
        "digest": experiment.data.get("digest"),
        "state": state.export(),
        "how": how,
        "threads": torch.get_num_threads(),
    }


def _interruption(run: RunDirectory, when: str) -> Interrupted:
    return Interrupted(f"interrupted {when}; the run is saved. Continue: mamlcli train --resume --run-dir {run.path}")


def _kind(record: Record) -> str:
    return type(record).__name__.removesuffix("Record").lower()


def _checkpoint(run: RunDirectory, state: TrainState) -> None:
    tensors, primitives = state.export()
    run.save_checkpoint("last", tensors, primitives)


def training_execution(experiment: Experiment, num_workers: int = 1, num_replicas: int = 1) -> Execution:
    """Return how the tasks of a meta-batch are run, of one worker's share of it, or of all replicas together."""
    recipe = experiment.recipe
    num_tasks = len(share_of(recipe.outer.tasks, 0, num_workers)) * num_replicas
    return experiment.execution(num_tasks=num_tasks, num_steps=recipe.inner.steps)


def recorded_workers(run: RunDirectory) -> int:
    """Return the number of workers that a run was trained with so far."""
    return int(run.manifest.get("execution", {}).get("workers", 1))


def recorded_execution(run: RunDirectory, num_workers: int = 1, num_replicas: int = 1) -> Execution | None:
    """Return how a run that goes on was computed so far: sums in another order round differently.

    Also sets the threads of one operation; None for a run that recorded nothing, was split over another number of
    workers, or computed together with another number of replicas.
    """
    record = run.manifest.get("execution", {})
    if (record.get("workers", 1), record.get("replicas", 1)) != (num_workers, num_replicas):
        return None
    try:
        how = Execution(record["path"], record["chunk"], record.get("parallel", 1), record.get("compile", False))
        torch.set_num_threads(record["threads"])
    except KeyError:
        return None
    return how


Gradient = Callable[[MetaParams, int], MetaGradient]


def training_functions(
    experiment: Experiment, how: Execution, group: WorkerGroup = ALONE
) -> tuple[Gradient, Validate | None]:
    """Return (gradient, validate), the two callables that `engine.train` needs; the same results in all workers."""
    recipe, objective = experiment.recipe, experiment.objective()
    indices = group.share(recipe.outer.tasks)

    def gradient(meta: MetaParams, iteration: int) -> MetaGradient:
        episode = sample_tasks(
            experiment.distributions["train"],
            seed=recipe.seed,
            split="train",
            iteration=iteration,
            indices=indices,
        )
        return group.all_reduce(meta_gradient(objective, meta, episode, how), recipe.outer.tasks)

    def validate(meta: MetaParams) -> tuple[float, float | None]:
        return validation_scores(score(experiment, meta, **validation_tasks(recipe), group=group))

    return gradient, validate if recipe.validation.every else None


def validation_tasks(recipe: Recipe) -> dict[str, Any]:
    """Return the arguments of `score` for meta-validation."""
    return {
        "split": "validation",
        "stream": SELECTION_STREAM,
        "num_tasks": recipe.validation.tasks,
        "references": False,
    }


def validation_scores(evaluation: Evaluation) -> tuple[float, float | None]:
    """Return (loss, accuracy or None) after the last inner step, means over the tasks."""
    accuracy = evaluation.estimate("query_accuracy", -1).mean if evaluation.is_classification else None
    return evaluation.estimate("query_loss", -1).mean, accuracy


def evaluation_tasks(recipe: Recipe) -> dict[str, Any]:
    """Return the arguments of `score` for the final evaluation."""
    spec = recipe.evaluation
    return {"split": spec.split, "num_tasks": spec.tasks, "num_steps": spec.steps or recipe.inner.steps}


def score(
    experiment: Experiment,
    meta: MetaParams,
    *,
    split: str,
    num_tasks: int,
    num_steps: int | None = None,
    stream: str | None = None,
    references: bool = True,
    group: WorkerGroup = ALONE,
) -> Evaluation:
    """Score meta-parameters on tasks of a split, drawn by `evaluation.seed`; `stream` names other tasks of it.

    Workers score a share of the tasks each; all of them return the whole.
    """
    share = group.share(num_tasks)
    mine = score_replicas(
        experiment, [meta], split=split, num_tasks=num_tasks, num_steps=num_steps, stream=stream,
        references=references, share=share,
    ) if share else [None]  # fmt: skip
    parts = [part for part in group.gather(mine[0]) if part is not None]
    return parts[0] if len(parts) == 1 else join_evaluations(parts)


def score_replicas(
    experiment: Experiment,
    metas: Sequence[MetaParams],
    *,
    split: str,
    num_tasks: int,
    num_steps: int | None = None,
    stream: str | None = None,
    references: bool = True,
    share: range | None = None,
) -> list[Evaluation]:
    """Score several replicas on the same tasks, as `score` does one; only those of a share if it is given."""
    return evaluate_replicas(
        experiment.objective(num_steps),
        metas,
        experiment.distributions[split],
        stream=stream or split,
        seed=experiment.recipe.evaluation.seed,
        num_tasks=num_tasks,
        execution=experiment.execution(num_tasks=len(share or range(num_tasks)) * len(metas), num_steps=0),
        with_references=references,
        share=share,
    )


def protocol_of(recipe: Recipe, *, split: str, num_tasks: int, num_steps: int) -> Protocol:
    """Return all that a number of an evaluation needs to be compared."""
    tasks, model = recipe.tasks, recipe.model
    ways = tasks.ways if isinstance(tasks, ImageKeys) else (2 if recipe.is_classification else None)
    return Protocol(
        split=split,
        num_tasks=num_tasks,
        ways=ways,
        shots=tasks.shots,
        queries=tasks.queries,
        per_class=isinstance(tasks, ImageKeys),
        inner_steps=num_steps,
        batch_norm=getattr(model, "norm", "none"),
        seed=recipe.evaluation.seed,
    )


def _final_evaluation(
    run: RunDirectory,
    experiment: Experiment,
    state: TrainState,
    how: Execution,
    is_interrupted: Callable[[], bool],
    told: Progress,
) -> Generator[Request, Any, RunResult]:
    spec = experiment.recipe.evaluation
    if told.on_evaluation:
        told.on_evaluation(spec.tasks)
    meta, weights = best_weights(run, experiment)
    steps = spec.steps or experiment.recipe.inner.steps
    evaluation = yield Request("evaluation", state.iteration, meta, how, state, experiment.outer_loop())
    if is_interrupted():
        raise _interruption(run, "during the evaluation")
    report = evaluation_report(run, experiment, evaluation, weights, split=spec.split, num_steps=steps)
    log_evaluation(experiment.recipe.logging, run.path, report)
    write_evaluation(run.path, evaluation, report)
    return RunResult(run, report.to_json(), weights)


def score_at_end(experiment: Experiment, meta: MetaParams | None, group: WorkerGroup = ALONE) -> Evaluation:
    """Score the meta-parameters of worker 0 as `evaluation` in the recipe says; the others have none."""
    if group.place is not None:
        told = group.broadcast({name: value.cpu() for name, value in meta.flat().items()} if meta else None)
        meta = MetaParams.from_flat({name: value.to(experiment.device) for name, value in (told or {}).items()})
    assert meta is not None
    return score(experiment, meta, **evaluation_tasks(experiment.recipe), group=group)


def write_evaluation(folder: Path, evaluation: Evaluation, report: RunReport) -> None:
    """Write the scores of all tasks, the figure of their curve and the report of an evaluation to a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        result = RunDirectory(folder)
        result.write_scores(evaluation.scores)
        save_curve(report, result.curve_path)
        result.write_report(report)
    except OSError as error:
        raise RunError(str(folder), expected="a folder that can be written", got=str(error)) from error


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
    num_tasks = len(evaluation.scores)
    return RunReport(
        run=str(run.path),
        recipe=run.name,
        weights=weights,
        protocol=protocol_of(experiment.recipe, split=split, num_tasks=num_tasks, num_steps=num_steps),
        curve=curve_of(evaluation),
        references={name: _reference_scores(reference) for name, reference in evaluation.references.items()},
        chance_accuracy=evaluation.chance_accuracy,
    )


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


def dry_run(recipe: Recipe) -> dict[str, Any]:
    """Return what a run would cost, measured on a few meta-iterations of it; nothing is written.

    Returns:
        num_parameters, num_transform_parameters, seconds_per_iteration, training_s, evaluation_s,
        peak_memory_mb, execution, device.
    """
    experiment = build(recipe, splits=splits_of_training(recipe))
    meta = experiment.initial_meta()
    how = training_execution(experiment)
    gradient, _ = training_functions(experiment, how)
    gradient(meta, 0)  # warms caches up
    per_iteration = min(_timed(lambda: gradient(meta, 0)) for _ in range(2))
    sample = min(20, recipe.evaluation.tasks)
    split = recipe.evaluation.split
    per_task = _timed(lambda: score(experiment, meta, split=split, num_tasks=sample)) / sample
    validations = recipe.outer.iterations // recipe.validation.every if recipe.validation.every else 0
    return {
        "device": str(experiment.device),
        "num_parameters": count_parameters(meta.model),
        "num_transform_parameters": count_parameters(meta.transform),
        "seconds_per_iteration": per_iteration,
        "training_s": per_iteration * recipe.outer.iterations + per_task * validations * recipe.validation.tasks,
        "evaluation_s": per_task * recipe.evaluation.tasks,
        "peak_memory_mb": peak_memory_mb(experiment.device),
        "execution": execution_record(experiment, how),
    }


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def execution_record(
    experiment: Experiment, how: Execution, num_workers: int = 1, num_replicas: int = 1
) -> dict[str, Any]:
    """Return how the run is computed: `Execution`, threads of one operation, precision, workers, replicas."""
    return {
        **asdict(how),
        "threads": torch.get_num_threads(),
        "dtype": experiment.recipe.execution.dtype,
        "workers": num_workers,
        "replicas": num_replicas,
    }


def _start_manifest(
    run: RunDirectory, experiment: Experiment, argv: list[str], iteration: int, execution: dict[str, Any]
) -> None:
    meta = experiment.initial_meta()
    manifest = run.manifest
    if iteration and (recorded := manifest.get("data", {}).get("digest")) != experiment.data.get("digest"):
        raise RunError(str(run.path), expected=f"the data it was trained on (digest {recorded})",
                       got=f"other data (digest {experiment.data.get('digest')})",
                       next_step="Put the first pack back, or train a new run")  # fmt: skip
    run.update_manifest(
        {
            "status": "running",
            "reason": None,
            "argv": argv,
            "started_at": manifest.get("started_at", now()),
            "resumed_from": [*manifest.get("resumed_from", []), *([iteration] if iteration else [])],
            "seed": experiment.recipe.seed,
            "evaluation_seed": experiment.recipe.evaluation.seed,
            "num_parameters": count_parameters(meta.model),
            "num_transform_parameters": count_parameters(meta.transform),
            "network": {
                "input_shape": list(experiment.network.input_shape),
                "num_outputs": next(iter(experiment.distributions.values())).num_outputs,
            },
            "device": device_name(experiment.device),
            "execution": execution,
            "data": experiment.data,
            "versions": versions(),
            "git": git_state(),
        }
    )
