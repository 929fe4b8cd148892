"""Studies and the reproduction start here, as plain functions that know no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mamlcli.common.errors import MamlError
from mamlcli.common.machine import num_cores, threads_of
from mamlcli.common.names import RUNS
from mamlcli.common.words import nearest
from mamlcli.recipe.tasks_schema import SyntheticKeys
from mamlcli.runs.search import next_run_path
from mamlcli.studies.claims.evidence import decide_claims, reproduction_to_json
from mamlcli.studies.claims.predictions import ClaimResult, Study
from mamlcli.studies.claims.reproduction import present_families, run_families, sweep_of
from mamlcli.studies.claims.scales import SCALES, Family, Scale
from mamlcli.studies.sweeps.capacity import add_capacity, capacity_jobs
from mamlcli.studies.sweeps.closed_form import add_closed_form
from mamlcli.studies.sweeps.folder import begun_sweep, open_study, write_result
from mamlcli.studies.sweeps.from_trained import check_start_width
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.run import CellEnd, default_jobs, run_sweep
from mamlcli.studies.sweeps.sweep import Sweep, cells_of, check_sweep
from mamlcli.training.placement import threads_kept


@threads_kept()
def run_study(
    sweep: Sweep,
    folder: Path | str | None = None,
    *,
    jobs: int | None = None,
    with_capacity: bool | None = None,
    command: Callable[[Path], str] = str,
    argv: Sequence[str] = (),
    on_begin: Callable[[Path, int, bool], None] = lambda path, num_processes, was_there: None,
    on_end: Callable[[CellEnd], None] | None = None,
) -> StudyResult:
    """Run what is missing of a study, and write its result.json, table.csv and figures.

    Args:
        sweep: what varies, and over what, as `studies.depth_sweep` returns.
        folder: where it goes, or a study to finish; by default runs/<study>-<recipe>-<number>.
        jobs: cells at a time; by default the cores, and 1 on CUDA.
        with_capacity: whether each value is also trained without meta-learning; by default for synthetic tasks.
        command: what continues the study in a folder, for its study.json.
        argv: the command line, for the manifests; by default that of this process.
        on_begin: called with the folder, the number of processes and whether the study was there.
        on_end: called when a cell ends.

    Returns:
        The result, of the cells that are done; `failures` names those that are not.

    Raises:
        MamlError: what cannot run, before anything does.
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    path = Path(folder) if folder is not None else next_run_path(RUNS, f"{sweep.study}-{sweep.recipe_name}")
    sweep = begun_sweep(path, sweep)
    experiment = check_sweep(sweep)
    check_start_width(sweep, experiment)
    was_there = open_study(path, sweep, command(path))
    num_processes = jobs or default_jobs(sweep.recipe, len(cells_of(sweep)))
    if with_capacity is None:
        with_capacity = isinstance(sweep.recipe.tasks, SyntheticKeys)
    extra = capacity_jobs(sweep, path, num_threads=threads_of(num_processes)) if with_capacity else []
    on_begin(path, num_processes, was_there)
    result = run_sweep(
        sweep,
        path,
        num_processes=num_processes,
        argv=argv or sys.argv,
        extra_jobs=extra,
        on_end=on_end or (lambda end: None),
    )
    result = add_closed_form(add_capacity(result, sweep, path), sweep, experiment)
    write_result(path, result)
    return result


@dataclass(frozen=True)
class Reproduction:
    """A reproduction holds every claim of the paper, decided.

    Attributes:
        scale: how much was run.
        num_seeds: of every cell.
        claims: the decided claims.
        studies: what they rest on.
        left_out: data sets that are not here, in words.
        failures: cells that failed, in words.
    """

    scale: Scale
    num_seeds: int
    claims: tuple[ClaimResult, ...]
    studies: tuple[Study, ...]
    left_out: tuple[str, ...]
    failures: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the machine-readable form: what result.json of a reproduction holds."""
        content = reproduction_to_json(self.scale, self.claims, self.studies)
        return {**content, "num_seeds": self.num_seeds, "left_out": list(self.left_out)}


@threads_kept()
def reproduce(
    scale: str = "laptop",
    *,
    folder: Path | str | None = None,
    seeds: int | None = None,
    jobs: int | None = None,
    device: str | None = None,
    command: Callable[[Path], str] = str,
    argv: Sequence[str] = (),
    on_family: Callable[[Family, Sweep], None] | None = None,
    on_end: Callable[[CellEnd], None] | None = None,
) -> Reproduction:
    """Run what is missing of a reproduction and decide every claim; a cut one goes on where it was.

    Args:
        scale: "smoke", "laptop" or "paper".
        folder: where it goes, or one to finish; by default runs/reproduce-<scale>.
        seeds: of every cell; by default the scale's.
        jobs: cells at a time; by default the cores, and 1 on CUDA.
        device: where to compute; by default what the recipes say.
        command: what continues the reproduction in a folder, for the study.json of each study.
        argv: the command line, for the manifests; by default that of this process.
        on_family: called when a study begins.
        on_end: called when a cell ends.

    Raises:
        MamlError: an unknown scale, or data that it needs is missing.
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    chosen = scale_of(scale)
    families, left_out = present_families(chosen)
    path = Path(folder) if folder is not None else RUNS / f"reproduce-{scale}"
    num_seeds = seeds or chosen.num_seeds
    studies, failures = run_families(
        families,
        path,
        num_seeds=num_seeds,
        num_processes=jobs or num_processes_of(families, num_seeds, device),
        argv=argv or sys.argv,
        command=command(path),
        device=device,
        on_family=on_family or (lambda family, sweep: None),
        on_end=on_end or (lambda end: None),
    )
    claims = tuple(decide_claims(chosen, studies))
    return Reproduction(chosen, num_seeds, claims, tuple(studies), tuple(left_out), tuple(failures))


def scale_of(name: str) -> Scale:
    """Return a scale by its name."""
    if name not in SCALES:
        near = nearest(name, SCALES).strip() or None
        raise MamlError("--scale", expected=f"one of {', '.join(SCALES)}", got=repr(name), why=near)
    return SCALES[name]()


def num_processes_of(families: Sequence[Family], num_seeds: int, device: str | None) -> int:
    """Return the processes of a reproduction where none are asked for."""
    return default_jobs(sweep_of(families[0], num_seeds, device).recipe, num_cores())
