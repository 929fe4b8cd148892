"""Studies and the reproduction start here, as plain functions that know no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

from mamlcli.common.errors import MamlError
from mamlcli.common.files import expanded
from mamlcli.common.machine import num_cores
from mamlcli.common.names import RUNS
from mamlcli.common.processes.pool import Executor, LocalExecutor
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.tasks_schema import SyntheticKeys
from mamlcli.runs.place import in_numbered_place
from mamlcli.studies.claims.calls import CallClock, read_calls
from mamlcli.studies.claims.looks import Extent, Machine, take_looks
from mamlcli.studies.claims.pilot_runs import pilots_command, pilots_words
from mamlcli.studies.claims.pilots import run_pilots
from mamlcli.studies.claims.plan import FIRST_SEED, PILOTS, PLAN_FILE, Family, Plan, read_plan
from mamlcli.studies.claims.registration import Draft, Request, draft, open_plan, plan_or_draft
from mamlcli.studies.claims.reproduction import Reproduction, sweep_of
from mamlcli.studies.sweeps.capacity import add_capacity, capacity_jobs, check_capacity
from mamlcli.studies.sweeps.closed_form import add_closed_form
from mamlcli.studies.sweeps.folder import begun_sweep, open_study, write_result
from mamlcli.studies.sweeps.from_trained import check_start_width
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.run import CellEnd, default_jobs, run_sweep
from mamlcli.studies.sweeps.sweep import Sweep, cells_of, check_sweep
from mamlcli.studies.where.local import local_executor
from mamlcli.studies.where.places import Wish, executor_at
from mamlcli.studies.where.probe import OnWait
from mamlcli.training.placement import process_kept


@process_kept()
def run_study(
    sweep: Sweep,
    folder: Path | str | None = None,
    *,
    jobs: int | None = None,
    on: str | None = None,
    per_gpu: int | None = None,
    with_capacity: bool | None = None,
    command: Callable[[Path], str] = str,
    argv: Sequence[str] = (),
    on_wait: OnWait = lambda words: None,
    on_begin: Callable[[Path, int, bool], None] = lambda path, num_processes, was_there: None,
    on_end: Callable[[CellEnd], None] | None = None,
) -> StudyResult:
    """Run what is missing of a study, and write its result.json, table.csv and figures.

    Args:
        sweep: what varies, and over what, as `studies.depth_sweep` returns.
        folder: where it goes, or a study to finish; by default runs/<study>-<recipe>-<number>.
        jobs: cells at a time; by default the cores, and 1 on a GPU.
        on: where: "local", "gpus[:N]", "slurm[:PROFILE]" or "tcp://HOST:PORT"; by default on each GPU where there are
            several, else here.
        per_gpu: cells at a time on each GPU; by default 1.
        with_capacity: whether each value is also trained without meta-learning; by default for synthetic tasks.
        command: what continues the study in a folder, for its study.json.
        argv: the command line, for the manifests; by default that of this process.
        on_wait, on_begin, on_end: called with what a cluster's first worker waits for; with the folder, the number of
            processes and whether the study was there; when a cell ends.

    Returns:
        The result, of the cells that are done; `failures` names those that are not.

    Raises:
        MamlError: what cannot run, before anything does.
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    if folder is not None:
        sweep = begun_sweep(expanded(folder), sweep)
    wish, device = Wish(on, jobs, per_gpu), sweep.recipe.execution.device
    experiment = check_sweep(sweep, is_here=wish.place(device).is_here)
    check_start_width(sweep, experiment)
    with_capacity = _has_capacity(sweep, with_capacity)
    num_default = partial(default_jobs, sweep.recipe, len(cells_of(sweep)))
    place = RUNS if folder is None else expanded(folder)
    opened = executor_at(wish, device=device, num_default=num_default, folder=place, on_wait=on_wait)
    with opened as at:
        path, was_there = _opened(folder, sweep, command, experiment.data_digest)
        extra = capacity_jobs(sweep, path, num_threads=at.num_threads) if with_capacity else []
        on_begin(path, at.num_processes, was_there)
        told = on_end or (lambda end: None)
        result = run_sweep(sweep, path, executor=at, argv=argv or sys.argv, extra_jobs=extra, on_end=told)
    result = add_closed_form(add_capacity(result, sweep, path), sweep, experiment)
    write_result(path, result)
    return result


def _has_capacity(sweep: Sweep, asked: bool | None) -> bool:
    """Return whether each value is also trained without meta-learning: as asked for, or where it can be."""
    if asked is None:
        return isinstance(sweep.recipe.tasks, SyntheticKeys) and not isinstance(sweep.recipe.model, OutsideModel)
    check_capacity(sweep, asked)
    return asked


def _opened(
    folder: Path | str | None, sweep: Sweep, command: Callable[[Path], str], digest: str | None
) -> tuple[Path, bool]:
    """Open a study's folder, or make the next numbered one; return it, and whether the study was there."""

    def opened(path: Path) -> tuple[Path, bool]:
        return path, open_study(path, sweep, command(path), digest)

    if folder is not None:
        return opened(expanded(folder))
    return in_numbered_place(RUNS, f"{sweep.study}-{sweep.recipe_name}", opened)


@process_kept()
def reproduce(
    scale: str = "laptop",
    *,
    folder: Path | str | None = None,
    seeds: int | None = None,
    until_decided: bool = False,
    max_seeds: int | None = None,
    hours: float | None = None,
    first_seed: int | None = None,
    families: Sequence[str] = (),
    choose_rates: bool = False,
    jobs: int | None = None,
    on: str | None = None,
    per_gpu: int | None = None,
    device: str | None = None,
    command: Callable[[Path], str] = str,
    argv: Sequence[str] = (),
    on_wait: OnWait = lambda words: None,
    on_open: Callable[[Executor], None] = lambda executor: None,
    on_family: Callable[[Family, Sweep], None] | None = None,
    on_end: Callable[[CellEnd], None] | None = None,
    on_look: Callable[[Reproduction], None] | None = None,
) -> Reproduction:
    """Register a plan, run what is missing of it, and decide every claim; a cut reproduction goes on where it was.

    Args:
        scale: "smoke", "laptop", "evening" or "paper".
        folder: where it goes, or one to finish; by default runs/reproduce-<scale>.
        seeds: of every cell, in one look; by default the scale's looks.
        until_decided: whether seeds are added, at the looks of the plan, to the cells of predictions that are open.
        max_seeds: with `until_decided`, no look beyond this.
        hours: no run and no pilot begins later than this.
        first_seed: of those tested, 100 or more; by default 100.
        families: optional families of the scale, by name.
        choose_rates: whether inner rates are chosen by pilots first, even where the scale has them.
        jobs, on, per_gpu: as in `run_study`.
        device: where to compute; by default what the recipes say.
        command, argv, on_wait: as in `run_study`.
        on_open: called with what does the runs, before any.
        on_family, on_end, on_look: called when a study is gone through, when a cell or a pilot ends, after each look.

    Raises:
        MamlError: a request that cannot be met, or that is not the folder's plan.
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    deadline = None if hours is None else time.monotonic() + 3600 * hours
    request = Request(scale, seeds, until_decided, max_seeds, first_seed, tuple(families), choose_rates)
    path = reproduction_path(folder, scale)
    first = plan_or_draft(path, request).families
    with executor_of(Wish(on, jobs, per_gpu), path, first, device, on_wait) as executor:
        on_open(executor)
        told = on_family or (lambda family, sweep: None), on_end or (lambda end: None), on_look or (lambda done: None)
        machine = Machine(executor, device, argv or sys.argv, command(path), *told)
        return _timed(path, request, Extent(until_decided, max_seeds, deadline), machine)


def executor_of(
    wish: Wish, path: Path, families: Sequence[Family], device: str | None, on_wait: OnWait = lambda words: None
) -> AbstractContextManager[Executor]:
    """Open the place where the runs of a reproduction are made."""
    recipe = sweep_of(families[0], first_seed=FIRST_SEED, num_seeds=1, device=device).recipe
    return executor_at(
        wish,
        device=recipe.execution.device,
        num_default=lambda: default_jobs(recipe, num_cores()),
        folder=path,
        on_wait=on_wait,
    )


def _timed(path: Path, request: Request, extent: Extent, machine: Machine) -> Reproduction:
    """Register a plan, where there is none, and take its looks; the time of the call is noted."""
    with CallClock(path, machine.executor.num_processes) as clock:

        def end_run(end: CellEnd) -> None:
            clock.count(end.status)
            machine.on_end(end)

        counted = replace(machine, on_end=end_run)
        opened = open_plan(path, request, lambda: planned(draft(request), path, counted, extent.deadline))
        done = take_looks(opened, path, extent, counted)
    return replace(done, calls=read_calls(path))


@process_kept()
def read_reproduction(folder: Path, *, jobs: int | None = None, device: str | None = None) -> Reproduction:
    """Decide every claim again from the runs that a reproduction has, and run nothing.

    Args:
        folder: of the reproduction.
        jobs, device: what the costs of further runs are told for; as in `reproduce`.

    Raises:
        MamlError: the folder has no plan.
    """
    opened = read_plan(folder)
    if opened is None and (folder / PILOTS).is_dir():
        raise MamlError(
            str(folder),
            expected=f"a reproduction with a plan, {PLAN_FILE}",
            got=pilots_words(folder / PILOTS),
            why="The plan is registered when every inner learning rate is chosen; no cell is tested before",
            next_step=pilots_command(folder / PILOTS),
        )
    if opened is None:
        raise MamlError(
            str(folder),
            expected=f"a reproduction, a folder with a {PLAN_FILE}",
            got=f"a folder without {PLAN_FILE}" if folder.is_dir() else "no such folder",
            why="Without a plan there is nothing that a report could be of",
            next_step="Name the folder with --dir, or run it first, without --report: mamlcli reproduce",
        )
    machine = Machine(local_executor(jobs or num_processes_of(opened.plan.families, device)), device)
    return replace(take_looks(opened, folder, Extent(reads_only=True), machine), calls=read_calls(folder))


def reproduction_path(folder: Path | str | None, scale: str) -> Path:
    """Return the folder of a reproduction."""
    return expanded(folder) if folder is not None else RUNS / f"reproduce-{scale}"


def planned(made: Draft, path: Path, machine: Machine, deadline: float | None = None) -> Plan:
    """Return the plan of a draft; pilots, of which none begins after the deadline, choose the rates that it lacks."""
    for family in made.families:
        sweep = sweep_of(family, first_seed=FIRST_SEED, num_seeds=1, device=machine.device)
        check_sweep(sweep, is_here=isinstance(machine.executor, LocalExecutor))
    families, _ = run_pilots(
        made.families,
        path,
        executor=machine.executor,
        argv=machine.argv,
        device=machine.device,
        deadline=deadline,
        on_end=machine.on_end,
    )
    return made.plan(families)


def num_processes_of(families: Sequence[Family], device: str | None) -> int:
    """Return the processes of a reproduction where none are asked for."""
    sweep = sweep_of(families[0], first_seed=FIRST_SEED, num_seeds=1, device=device)
    return default_jobs(sweep.recipe, num_cores())
