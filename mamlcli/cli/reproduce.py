"""`mamlcli reproduce` decides every claim of the paper and writes a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.options import DeviceOption, JobsOption, JsonOption
from mamlcli.cli.study_display import SweepProgress, again, warn_about_jobs
from mamlcli.common.errors import Interrupted, MamlError
from mamlcli.common.names import RUNS

if TYPE_CHECKING:
    from mamlcli.studies.claims.scales import Family, Scale
    from mamlcli.studies.start import Reproduction
    from mamlcli.studies.sweeps.run import CellEnd
    from mamlcli.studies.sweeps.sweep import Sweep


ScaleOption = Annotated[
    str,
    typer.Option(help="smoke, laptop or paper.", autocompletion=complete.one_of("smoke", "laptop", "paper")),
]


SeedsOption = Annotated[
    int | None, typer.Option(min=1, help="Seeds of every cell; by default the scale's.", show_default=False)
]


DirOption = Annotated[
    Path | None, typer.Option("--dir", help="Where it goes, or one to finish; by default runs/reproduce-<scale>.")
]


DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be run and what it would cost.")]


def reproduce(
    scale: ScaleOption = "laptop",
    seeds: SeedsOption = None,
    jobs: JobsOption = None,
    directory: DirOption = None,
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check every claim of the paper: run what each needs, decide it by a stated rule, write a report.

    smoke (under 2 minutes) shows that everything runs; laptop (2 cores, under 25 minutes, no download) decides what it
    can, on synthetic tasks and glyphs, and on Omniglot if its pack is there; paper has the release's settings, for a
    GPU. The same command again continues where it was cut.

    Examples:

      mamlcli reproduce

      mamlcli reproduce --scale smoke --json

      mamlcli reproduce --scale paper --dry-run
    """
    from mamlcli.studies.claims.files import write_report
    from mamlcli.studies.claims.reproduction import present_families
    from mamlcli.studies.start import num_processes_of, scale_of
    from mamlcli.studies.start import reproduce as run_reproduction

    chosen = scale_of(scale)
    families, _ = present_families(chosen)
    num_seeds = seeds or chosen.num_seeds
    warn_about_jobs(jobs)
    num_processes = jobs or num_processes_of(families, num_seeds, device)
    if dry_run or chosen.needs_packs:
        show_cost(chosen, families, num_seeds, num_processes, device)
    if dry_run:
        return
    path, display = directory or RUNS / f"reproduce-{scale}", Display(num_processes)
    try:
        done = run_reproduction(
            scale,
            folder=path,
            seeds=seeds,
            jobs=num_processes,
            device=device,
            command=again,
            on_family=display.begin,
            on_end=display.show,
        )
    except Interrupted as error:
        raise Interrupted(f"interrupted; what was done is saved. Continue: {again(path)}") from error
    notes = [*done.left_out, *done.failures]
    write_report(path, chosen, num_seeds, list(done.claims), list(done.studies), notes, done.to_json())
    console.show(done, lambda done: verdict_parts(done, path))
    raise_failures(done.failures, path)


def raise_failures(failures: Sequence[str], path: Path) -> None:
    """Raise MamlError where cells failed."""
    if failures:
        raise MamlError(
            str(path),
            expected="every cell to finish",
            got=f"{len(failures)} that failed: {failures[0]}",
            next_step=f"The others are done. Try these again: {again(path)}",
        )


def show_cost(scale: Scale, families: list[Family], num_seeds: int, num_processes: int, device: str | None) -> None:
    """Say how many runs a scale has and what they cost, measured on a few meta-iterations of each."""
    from mamlcli.common.tables import duration
    from mamlcli.studies.claims.reproduction import cost_s, num_cells

    total = cost_s(families, num_seeds, num_processes, device)
    names = ", ".join(family.words for family in families)
    console.note(
        f"scale {scale.name}: {scale.words}. {num_cells(families, num_seeds)} runs ({names}), "
        f"{num_processes} at a time: about {duration(total)} (measured on a few meta-iterations of each value)"
    )


class Display:
    """Shows a heading for each family, then one line for each of its cells."""

    def __init__(self, num_processes: int) -> None:
        self._num_processes = num_processes
        self._progress: SweepProgress | None = None

    def begin(self, family: Family, sweep: Sweep) -> None:
        """Show the heading of a family."""
        self._progress = SweepProgress(sweep, self._num_processes)
        console.note(f"{family.words}: {self._progress.plan}")

    def show(self, end: CellEnd) -> None:
        """Show how one cell ended."""
        assert self._progress is not None
        self._progress.show(end)


def verdict_parts(done: Reproduction, path: Path) -> Iterator[console.Part]:
    """Yield the verdicts on all claims, then where the report is."""
    from mamlcli.common.tables import plain_table
    from mamlcli.studies.claims.report import verdict_grid

    grid = verdict_grid(list(done.claims))
    table = plain_table(caption="holds, fails or undecided: by intervals over seeds and exact checks, see the report")
    for name in grid.header:
        table.add_column(name, no_wrap=name in ("claim", "verdict"))
    for row in grid.rows:
        table.add_row(*row)
    yield table
    yield console.Note(f"\nReport: {path}/report.html (also report.md, result.json)")
