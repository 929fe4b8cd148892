"""The study engine: axis values x seeds over a recipe, each cell an ordinary run directory.

A study folder holds study.json (what is studied; written first), cells/<slug>/ (run directories), and, once cells
are done, result.json, table.csv, figure.png and figure.svg. The same command on the same folder skips cells that
are done, resumes those that were cut, and tries those again that failed. All axis values share seeds and meta-test
tasks, so that they can be compared pair by pair.

A job of the pool is one cell, or several seeds of a value whose model is so small that they are trained as one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mamlcli.build import Experiment, build, build_network
from mamlcli.cell_result import Collapse, CollapseRecord, RateCandidate
from mamlcli.cells import PlannedCell, can_share, cell_outcomes, finished_report, group_sizes, run_cells
from mamlcli.errors import MamlError, NonFiniteError, RecipeError, RunError
from mamlcli.event_log import check_event_log
from mamlcli.files import atomic_write
from mamlcli.placement import resolve_device
from mamlcli.pool import Job, Outcome, run_jobs
from mamlcli.rate_choice import choose_inner_lr, rate_candidate, validation_metric
from mamlcli.recipe import Recipe
from mamlcli.recipe_changes import changed_recipe, recipe_difference
from mamlcli.recipe_files import recipe_from_tree, recipe_to_tree
from mamlcli.rundir import RunDirectory
from mamlcli.study_result import StudyResult
from mamlcli.study_results import FinishedCell, collect, final_scores, read_report
from mamlcli.study_scores import Scores, Value, value_to_json
from mamlcli.training_functions import splits_of_training


@dataclass(frozen=True)
class AxisValue:
    """One value of a study's axis.

    Attributes:
        value: a number, a name, or both on a grid.
        label: in words, as in "depth 2".
        changes: dotted recipe keys and what they become.
        option: the command-line option that it came from, for errors.
    """

    value: Value
    label: str
    changes: Mapping[str, object]
    option: str

    @property
    def slug(self) -> str:
        """The label as part of a folder's name."""
        return self.label.replace(",", "").replace(" ", "-")


@dataclass(frozen=True)
class Sweep:
    """A study: what varies, and over what.

    Attributes:
        study: the command's name.
        axis: the recipe key that varies; on a grid both, joined by " x ".
        recipe_name, recipe: the base.
        values: of the axis, in order.
        num_seeds: seeds from `recipe.seed` upwards.
        inner_lrs: candidates for each value's inner learning rate, chosen by meta-validation; empty for the
            recipe's own.
        pairs: (a, b) as indices into `values`, compared pair by pair.
        started_from: a trained run that every cell starts from, with linear layers appended; None for a fresh
            start.
        with_collapse: whether each cell's linear layers are collapsed and the outputs compared.
    """

    study: str
    axis: str
    recipe_name: str
    recipe: Recipe
    values: tuple[AxisValue, ...]
    num_seeds: int = 3
    inner_lrs: tuple[float, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    started_from: Path | None = None
    with_collapse: bool = False

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.recipe.seed, self.recipe.seed + self.num_seeds))

    def settings(self) -> dict[str, object]:
        """Return all that makes two studies the same, primitives."""
        return {
            "study": self.study,
            "axis": self.axis,
            "recipe_name": self.recipe_name,
            "values": [value_to_json(value.value) for value in self.values],
            "seeds": list(self.seeds),
            "inner_lrs": list(self.inner_lrs),
            "started_from": str(self.started_from) if self.started_from else None,
            "recipe": recipe_to_tree(self.recipe),
        }


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        value: of the axis.
        seed: of the run.
        inner_lr: of the run.
        recipe: resolved.
        name: of its folder below cells/.
        is_candidate: whether its inner learning rate is one of several to choose from.
    """

    value: AxisValue
    seed: int
    inner_lr: float
    recipe: Recipe
    name: str
    is_candidate: bool

    @property
    def label(self) -> str:
        rate = f", inner lr {self.inner_lr:g}" if self.is_candidate else ""
        return f"{self.value.label}{rate}, seed {self.seed}"


@dataclass(frozen=True)
class CellEnd:
    """How a cell ended, for a line of progress.

    Attributes:
        label: the cell in words.
        status: "done", "skipped" (it was done before), "failed", "diverged" or "interrupted".
        num_ended, num_total: cells that have ended, this one included, and all.
        scores: of its run after adaptation; None unless done.
        reason: why it failed.
        wall_s: seconds it took; 0 if skipped.
    """

    label: str
    status: str
    num_ended: int
    num_total: int
    scores: Scores | None = None
    reason: str = ""
    wall_s: float = 0.0


@dataclass(frozen=True)
class SweepOutcome:
    """What a sweep came to.

    Attributes:
        result: of the cells that are done.
        failures: (cell or job in words, reason) of those that failed.
    """

    result: StudyResult
    failures: list[tuple[str, str]] = field(default_factory=list)


def cells_of(sweep: Sweep) -> list[Cell]:
    """Return the cells of a sweep: seed by seed, so that an early stop leaves whole seeds.

    Raises:
        RecipeError: values that the recipe cannot have, all at once.
    """
    cells, problems = [], []
    for seed in sweep.seeds:
        for value in sweep.values:
            for rate in sweep.inner_lrs or (sweep.recipe.inner.lr,):
                changes = {**value.changes, "seed": seed, "inner.lr": rate}
                try:
                    recipe = changed_recipe(sweep.recipe, changes, where=value.option)
                except RecipeError as error:
                    problems += error.problems
                    continue
                middle = f"-lr{rate:g}" if sweep.inner_lrs else ""
                name = f"{value.slug}{middle}-seed-{seed}"
                cells.append(Cell(value, seed, rate, recipe, name, bool(sweep.inner_lrs)))
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    return cells


def check_sweep(sweep: Sweep) -> Experiment:
    """Build every axis value's network and inner loop, so that what cannot run is refused before anything does.

    Returns:
        The first value's experiment, on the CPU.

    Raises:
        MamlError: values that the model cannot have, all at once; data or a device that is missing.
    """
    if sweep.inner_lrs and sweep.recipe.validation.every is None:
        raise MamlError("--inner-lrs", expected="a recipe with meta-validation to choose rates by",
                        got="validation.every=null", next_step="Set validation.every=200")  # fmt: skip
    by_value = {cell.value.label: cell for cell in cells_of(sweep)}
    first = next(iter(by_value.values())).recipe
    resolve_device(first.execution.device)
    check_event_log(first.logging)
    # On the CPU: the parent of a sweep on CUDA computes nothing and should hold no memory there.
    on_cpu = changed_recipe(first, {"execution.device": "cpu", "inner.transform": {"name": "none"}}, "recipe")
    base = build(on_cpu, splits=splits_of_training(first))
    problems: list[str] = []
    shape, num_outputs = base.network.input_shape, next(iter(base.distributions.values())).num_outputs
    for cell in by_value.values():
        try:
            network = build_network(cell.recipe, shape, num_outputs)
            replace(base, recipe=cell.recipe, network=network).objective()
        except MamlError as error:
            problems.append(f"{cell.value.option}: {error}")
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    return replace(base, recipe=on_cpu)


def open_study(path: Path, sweep: Sweep, command: str) -> bool:
    """Make a study's folder, or check that the folder there is this study's.

    It may have other seeds from the same first one upwards: more are added to it, and with fewer the rest are left.

    Returns:
        Whether it was there already.

    Raises:
        RunError: the folder is another study's, something else, in use, or cannot be written.
    """
    file = path / "study.json"
    if not file.is_file():
        _make_folder(path, {**sweep.settings(), "command": command})
        return False
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise RunError(str(file), expected="a readable study.json", got=str(error),
                       next_step="Name another --dir") from error  # fmt: skip
    difference = _settings_difference(found, sweep)
    if difference:
        raise RunError(
            str(path), expected="a folder of this study", got=f"another study's: {', '.join(difference)}",
            next_step=f"Name another --dir, or continue that one: {found.get('command', '')}",
        )  # fmt: skip
    if len(sweep.seeds) > len(found["seeds"]):
        with RunDirectory(path).lock():
            _write_settings(path, {**found, "seeds": list(sweep.seeds), "command": command})
    return True


def _make_folder(path: Path, settings: Mapping[str, object]) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        got = "a folder of something else" if path.is_dir() else "a file"
        raise RunError(str(path), expected="a new or empty folder, or one of this study", got=got,
                       next_step="Name another --dir")  # fmt: skip
    try:
        (path / "cells").mkdir(parents=True, exist_ok=True)
        _write_settings(path, settings)
    except OSError as error:
        raise RunError(str(path), expected="a folder that can be written", got=error.strerror,
                       next_step="Name another --dir") from error  # fmt: skip


def _write_settings(path: Path, settings: Mapping[str, object]) -> None:
    atomic_write(path / "study.json", (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode())


def _settings_difference(found: Mapping[str, Any], sweep: Sweep) -> list[str]:
    here = json.loads(json.dumps(sweep.settings()))
    # Seeds count up from the recipe's, which is compared below, so that more of them are a superset.
    keys = [key for key in here if key not in ("recipe", "seeds") and found.get(key) != here[key]]
    if not isinstance(found.get("seeds"), list):
        keys.append("seeds")
    differences = {key: (found.get(key), here[key]) for key in keys}
    if isinstance(found.get("recipe"), dict):
        old = recipe_from_tree(found["recipe"], where="study.json")
        differences |= {f"recipe.{k}": pair for k, pair in recipe_difference(old, sweep.recipe).items()}
    return [f"{key} ({old!r} there, {new!r} here)" for key, (old, new) in differences.items()]


def num_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of(num_workers: int) -> int:
    """Return the threads that each of several processes may use, so that together they fill the cores."""
    return max(1, num_cores() // num_workers)


def default_jobs(recipe: Recipe, num_cells: int) -> int:
    """Return the processes of a sweep where none are asked for: one on CUDA, else one for each core."""
    if resolve_device(recipe.execution.device).type == "cuda":
        return 1
    return max(1, min(num_cores(), num_cells))


def run_sweep(
    sweep: Sweep,
    path: Path,
    *,
    num_workers: int,
    argv: Sequence[str],
    extra_jobs: Sequence[Job] = (),
    on_start: Callable[[str, int], None] | None = None,
    on_end: Callable[[CellEnd], None] | None = None,
) -> SweepOutcome:
    """Run what is missing of a study and collect its result.

    Args:
        sweep: checked by `check_sweep`.
        path: its folder, made or checked by `open_study`.
        num_workers: processes.
        argv: the command, for the manifests.
        extra_jobs: further work for the same processes, after the cells.
        on_start: called with a cell's name (or a job's key) and the id of the process that works on it.
        on_end: called when a cell ends.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the cells at work have saved their state.
        RunError: another process works on the folder.
    """
    cells = cells_of(sweep)
    labels = {cell.name: cell.label for cell in cells} | {job.key: job.key.replace("/", ": ") for job in extra_jobs}
    names_of: dict[str, list[str]] = {}  # the cells of each job, by its key
    num_ended = 0

    def tell(name: str, status: str, *, scores: Scores | None, reason: str = "", wall_s: float = 0.0) -> None:
        nonlocal num_ended
        num_ended += 1
        if on_end:
            on_end(CellEnd(labels[name], status, num_ended, len(labels), scores, reason, wall_s))

    def is_done(name: str) -> bool:
        return _done_before(sweep, path / "cells" / name) is not None

    def parts_of(outcome: Outcome) -> list[Outcome]:
        return cell_outcomes(outcome, names_of.get(outcome.key, [outcome.key]), is_done=is_done)

    def end(outcome: Outcome) -> None:
        for part in parts_of(outcome):
            end_one(part)

    def end_one(outcome: Outcome) -> None:
        folder = path / "cells" / outcome.key
        if outcome.status == "done":
            (folder / "error.log").unlink(missing_ok=True)  # of an earlier attempt
        elif outcome.details and folder.is_dir():
            atomic_write(folder / "error.log", outcome.details.encode())
        is_run = outcome.status == "done" and (folder / "evaluation.json").is_file()
        scores = final_scores(read_report(RunDirectory(folder))) if is_run else None
        status = "diverged" if outcome.error == NonFiniteError.__name__ else outcome.status
        reason = outcome.reason if outcome.status == "failed" else ""
        tell(outcome.key, status, scores=scores, reason=reason, wall_s=outcome.wall_s)

    with RunDirectory(path).lock():
        missing = []
        for cell in cells:
            if (report := _done_before(sweep, path / "cells" / cell.name)) is not None:
                tell(cell.name, "skipped", scores=final_scores(report))
            else:
                missing.append(cell)
        groups = cell_groups(missing, num_workers)
        num_threads = threads_of(num_workers)
        jobs = [cell_job(sweep, path, group, argv=argv, num_threads=num_threads) for group in groups]
        names_of |= {group[0].name: [cell.name for cell in group] for group in groups}

        def start(job: Job, pid: int) -> None:
            for name in names_of.get(job.key, [job.key]):
                on_start(name, pid)  # type: ignore[misc]

        outcomes = run_jobs(
            [*jobs, *extra_jobs],
            num_workers=num_workers,
            hopeless=[NonFiniteError.__name__],  # a training that diverged does so again, bit for bit
            on_start=start if on_start else None,
            on_end=end,
        )
        parts = [part for outcome in outcomes.values() for part in parts_of(outcome)]
        by_cell = {part.key: part for part in parts}
        return _outcome(sweep, path, cells, by_cell, labels)


def _done_before(sweep: Sweep, folder: Path) -> Mapping[str, Any] | None:
    """Return the report of a cell that needs no more work."""
    if not (folder / "manifest.json").is_file() or not (folder / "recipe.yaml").is_file():
        return None
    if sweep.with_collapse and not (folder / "collapse.json").is_file():
        return None
    return finished_report(RunDirectory(folder))


def cell_groups(cells: Sequence[Cell], num_workers: int) -> list[list[Cell]]:
    """Return which cells share a job: the seeds of one value, where the model is so small that it pays.

    In the order of the first cell of each.
    """
    by_value: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        by_value.setdefault((cell.value.label, cell.inner_lr), []).append(cell)
    small = [key for key, own in by_value.items() if len(own) > 1 and can_share(own[0].recipe)]
    groups = []
    for key, own in by_value.items():
        sizes = group_sizes(len(own), len(small), num_workers) if key in small else [1] * len(own)
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        groups += [own[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return sorted(groups, key=lambda group: cells.index(group[0]))


def cell_job(sweep: Sweep, path: Path, cells: Sequence[Cell], *, argv: Sequence[str], num_threads: int) -> Job:
    """Return the job that trains some cells together; its key is the name of the first."""
    planned = tuple(
        PlannedCell(
            name=cell.name,
            path=path / "cells" / cell.name,
            recipe_name=sweep.recipe_name,
            recipe=recipe_to_tree(cell.recipe),
            argv=tuple(argv),
            num_threads=num_threads,
            started_from=Path(sweep.started_from) if sweep.started_from else None,
            with_collapse=sweep.with_collapse,
        )
        for cell in cells
    )
    return Job(planned[0].name, run_cells, planned)


def _outcome(
    sweep: Sweep, path: Path, cells: list[Cell], outcomes: dict[str, Outcome], labels: dict[str, str]
) -> SweepOutcome:
    """Read the finished runs, choose inner learning rates where asked, and collect."""
    failed = {key: outcome for key, outcome in outcomes.items() if outcome.status == "failed"}
    diverged = {key for key, outcome in failed.items() if outcome.error == NonFiniteError.__name__}
    failures = [
        (labels[key], outcome.reason) for key, outcome in failed.items() if not (sweep.inner_lrs and key in diverged)
    ]
    finished = []
    for value in sweep.values:
        own = [cell for cell in cells if cell.value is value]
        candidates: tuple[RateCandidate, ...] = ()
        rate = sweep.recipe.inner.lr
        if sweep.inner_lrs:
            candidates = tuple(
                rate_candidate(
                    rate,
                    [RunDirectory(path / "cells" / cell.name) for cell in own if cell.inner_lr == rate],
                    metric=validation_metric(sweep.recipe), failed=failed, diverged=diverged,
                )
                for rate in sweep.inner_lrs
            )  # fmt: skip
            chosen = choose_inner_lr(candidates)
            if any(candidate.status == "failed" for candidate in candidates):
                own = []  # a choice among those that happen to be left would be another choice
            elif chosen is None:
                failures.append((value.label, f"every inner learning rate diverged: {sweep.inner_lrs}"))
                own = []
            rate = rate if chosen is None else chosen
        chosen_cells = [cell for cell in own if cell.inner_lr == rate and cell.name not in failed]
        folders = {cell.seed: path / "cells" / cell.name for cell in chosen_cells}
        runs = {seed: RunDirectory(folder) for seed, folder in folders.items() if _is_finished(sweep, folder)}
        collapse = _collapse_summary(runs) if sweep.with_collapse and runs else None
        finished.append(FinishedCell(value.value, rate, runs, candidates, collapse))
    collected = collect(finished, sweep.pairs, num_seeds=sweep.num_seeds)
    result = StudyResult(
        study=sweep.study,
        axis=sweep.axis,
        recipe=sweep.recipe_name,
        seeds=sweep.seeds,
        directory=str(path),
        inner_lr_is_chosen=bool(sweep.inner_lrs),
        started_from=str(sweep.started_from) if sweep.started_from else None,
        cells=collected.cells,
        comparisons=collected.comparisons,
        protocol=collected.protocol,
        references=collected.references,
        chance_accuracy=collected.chance_accuracy,
        failures=tuple(failures),
    )
    return SweepOutcome(result, failures)


def _is_finished(sweep: Sweep, folder: Path) -> bool:
    names = ["evaluation.json", *(["collapse.json"] if sweep.with_collapse else [])]
    return all((folder / name).is_file() for name in names)


def _collapse_summary(runs: Mapping[int, RunDirectory]) -> Collapse:
    records = [CollapseRecord.from_json(json.loads((run.path / "collapse.json").read_text())) for run in runs.values()]
    worst = max(records, key=lambda record: record.largest_relative_difference)
    return Collapse(records[0].num_parameters_collapsed, worst)
