"""The commands of studies run a study here, and show its progress by cell, its tables, its verdict, its failures."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.cli import console
from mamlcli.cli.options import warn_about_selection
from mamlcli.common.commands import command
from mamlcli.common.errors import Interrupted, MamlError
from mamlcli.common.machine import num_cores
from mamlcli.runs.lock import NO_LOCKS, is_lock_held

if TYPE_CHECKING:
    from mamlcli.studies.sweeps.cell_result import CollapseRecord
    from mamlcli.studies.sweeps.result import StudyResult
    from mamlcli.studies.sweeps.run import CellEnd
    from mamlcli.studies.sweeps.sweep import Sweep
    from mamlcli.studies.where.places import Wish


# Running and showing -------------------------------------------------------------------------------------------


def study(sweep: Sweep, directory: Path | None, wish: Wish, *, with_capacity: bool | None) -> None:
    """Check a study, run what is missing of it, write and show its result.

    Args:
        sweep: what varies, and over what.
        directory: where it goes, or a study to finish.
        wish: where its cells are trained, and how many at a time.
        with_capacity: as in `run_study`.

    Raises:
        MamlError: what cannot run, before anything does; at the end, cells that failed.
    """
    from mamlcli.studies.start import run_study

    warn_about_selection(sweep.recipe)
    warn_about_jobs(wish)
    progress: list[SweepProgress] = []
    folders: list[Path] = []

    def begin(path: Path, num_processes: int, was_there: bool) -> None:
        folders.append(path)
        progress.append(SweepProgress(sweep, num_processes))
        if is_lock_held(path) is None:
            console.warn(f"{path}: {NO_LOCKS}")
        console.note(f"{'continuing' if was_there else 'study in'} {path}: {progress[0].plan}")

    try:
        result = run_study(
            sweep,
            directory,
            **vars(wish),
            with_capacity=with_capacity,
            command=again,
            on_wait=console.note,
            on_begin=begin,
            on_end=lambda end: progress[0].show(end),
        )
    except Interrupted as error:
        continues = f" Continue: {again(folders[0])}" if folders else ""
        raise Interrupted(f"interrupted; what was done is saved.{continues}") from error
    console.show(result, lambda result: study_parts(result, folders[0]))
    raise_failures(result, folders[0], again(folders[0]))


def again(path: Path) -> str:
    """Return the command that continues this study."""
    words = sys.argv[1:]
    is_named = any(word == "--dir" or word.startswith("--dir=") for word in words)
    return command(*words) if is_named else command(*words, "--dir", path)


def warn_about_jobs(wish: Wish) -> None:
    """Warn where more processes are asked for here than there are cores."""
    jobs = wish.jobs
    if wish.on in (None, "local") and jobs is not None and jobs > num_cores():
        console.warn(f"--jobs {jobs}: there are {num_cores()} cores; more processes than that wait for each other")


class SweepProgress:
    """Shows a line on stderr for each cell that ends, with the time that is left; without a sweep, for each pilot."""

    def __init__(self, sweep: Sweep | None, num_processes: int) -> None:
        self.plan = "pilots" if sweep is None else _plan_words(sweep, num_processes)
        # What pilots show decides how many more there are.
        self._of = "" if sweep is not None else " of those known so far"
        self._num_processes = num_processes
        self._walls: list[float] = []

    def show(self, end: CellEnd) -> None:
        """Show how one cell ended."""
        from mamlcli.common.tables import PERCENT, duration

        text = f"[{end.num_ended}/{end.num_total}] {end.label}: "
        if end.scores is not None:
            loss = end.scores.mean("loss")
            text += f"loss {loss:.3f}" if math.isfinite(loss) else "loss not finite"
            if "accuracy" in end.scores:
                text += f", accuracy {PERCENT * end.scores.mean('accuracy'):.1f} %"
        elif end.status != "done":
            # Of a divergence the iteration is enough here; the end of the study says all of it.
            reason = end.reason.partition(":")[0] if end.status == "diverged" else end.reason
            text += f"{end.status}: {reason}" if reason else end.status
        else:
            text += "done"
        if end.status == "skipped":
            text += " (was done)"
        elif end.status != "interrupted":
            self._walls.append(end.wall_s)
            left = sum(self._walls) / len(self._walls) * (end.num_total - end.num_ended) / self._num_processes
            where = f" on {end.where}" if end.where else ""
            about = f"; about {duration(left)} left{self._of}" if left > 0 else ""
            text += f" ({duration(end.wall_s)}{where}{about})"
        console.note(text)


def _plan_words(sweep: Sweep, num_processes: int) -> str:
    seeds = f"{sweep.num_seeds} seed{'s' if sweep.num_seeds != 1 else ''}"
    rates = f" x {len(sweep.inner_lrs)} inner learning rates" if sweep.inner_lrs else ""
    return f"{len(sweep.values)} values{rates} x {seeds}, {num_processes} at a time"


def study_parts(result: StudyResult, path: Path) -> Iterator[console.Part]:
    """Yield a study's tables, what they say, and where its files are."""
    from mamlcli.studies.sweeps.tables import study_tables
    from mamlcli.studies.sweeps.verdict import study_verdict

    yield from study_tables(result)
    yield study_verdict(result)
    yield console.Note(f"\nFigure: {path}/figure.png; numbers: {path}/result.json, {path}/table.csv")


def raise_failures(result: StudyResult, path: Path, next_command: str) -> None:
    """Raise MamlError where cells failed, or where a collapsed model has other outputs than its stack."""
    if result.failures:
        listed = "; ".join(f"{label}: {reason}" for label, reason in result.failures)
        raise MamlError(
            str(path),
            expected="every cell to finish",
            got=f"{len(result.failures)} that failed. {listed}",
            next_step=f"The others are done. Try these again: {next_command}",
        )
    records = [cell.collapse.worst for cell in result.cells if cell.collapse]
    if apart := [record for record in records if not record.agrees]:
        raise MamlError(
            str(path),
            expected="collapsed models with the outputs of their stacks",
            got=f"a relative difference of {apart[0].largest_relative_difference:.1e}",
            why="The stack's products cancel beyond the precision",
            next_step="Set execution.dtype=float64",
        )


def show_collapse(run: Path | None, out: Path) -> None:
    """Export a run collapsed, and say how far the collapsed model is from the stack."""
    from mamlcli.studies.sweeps.collapsed import export_collapsed

    if run is None:
        raise MamlError(
            "--collapse",
            expected="a run directory as first argument",
            got="none",
            next_step="As in: mamlcli add-linear runs/NAME --collapse OUT.safetensors",
        )
    console.show(export_collapsed(run, out), lambda record: [collapse_text(record, out)])


def collapse_text(record: CollapseRecord, out: Path) -> str:
    """Return in words what became of the parameters, and how far the outputs are apart."""
    return (
        f"{out}: {record.num_parameters:,} parameters collapsed to {record.num_parameters_collapsed:,}; the "
        f"largest difference of outputs on {record.num_tasks} adapted tasks is "
        f"{record.largest_relative_difference:.1e} of the largest output (allowed: {record.tolerance:.0e})"
    )
