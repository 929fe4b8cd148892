"""A reproduction is shown in the terminal here: its cost, its runs as they end, and what each look decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.cli import console
from mamlcli.cli.study_display import SweepProgress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from mamlcli.studies.claims.costs import Cost
    from mamlcli.studies.claims.plan import Family
    from mamlcli.studies.claims.predictions import ClaimResult, Row
    from mamlcli.studies.claims.reproduction import Reproduction
    from mamlcli.studies.sweeps.run import CellEnd
    from mamlcli.studies.sweeps.sweep import Sweep


def cost_words(cost: Cost, plan: str, num_processes: int) -> str:
    """Return in words how many runs there are to do, and how long they take."""
    from mamlcli.common.tables import duration

    done = f", {cost.num_done} of them done" if cost.num_done else ""
    pilots = f" and about {cost.num_pilots} pilots that choose inner learning rates" if cost.num_pilots else ""
    return (
        f"{plan}. {cost.num_runs} runs for the first look{done}{pilots}, "
        f"{num_processes} at a time: about {duration(cost.total_s)}, with controls and the premise of C2 "
        "(measured on a few meta-iterations of each value)"
    )


class Display:
    """Shows a heading for each family, a line for each of its cells that is run, and tables after each look."""

    def __init__(self, num_processes: int = 1) -> None:
        self.num_processes = num_processes
        self._family: tuple[Family, Sweep] | None = None
        self._progress: SweepProgress | None = None
        self._look: Reproduction | None = None

    def begin(self, family: Family, sweep: Sweep) -> None:
        """Note that a family is gone through; before the first of a look the look before is shown."""
        if self._look is not None:
            for part in look_parts(self._look):
                console.note(part)
            self._look = None
        self._family, self._progress = (family, sweep), SweepProgress(sweep, self.num_processes)
        console.note(f"{family.words}: {self._progress.plan}")

    def show(self, end: CellEnd) -> None:
        """Show how one cell, or a pilot, ended."""
        if self._progress is None:
            self._progress = SweepProgress(None, self.num_processes)
        self._progress.show(end)

    def look(self, done: Reproduction) -> None:
        """Keep what a look decided; the last one is shown as the result."""
        self._look = done


def look_parts(done: Reproduction) -> Iterator[Table | str]:
    """Yield what a look decided, what is open, and what the next look costs."""
    from mamlcli.common.tables import duration
    from mamlcli.studies.claims.reproduction import open_rows

    yield verdict_table(done.claims, look_words(done))
    if rows := open_rows(done.claims):
        yield open_table(rows, done)
    if done.next_hours is not None:
        yield (
            f"The next look is at {done.next_seeds} seeds of the cells of open predictions: about "
            f"{duration(3600 * done.next_hours)}"
        )
    if done.new_plan is not None:
        yield done.new_plan.words.replace("`", "")


def look_words(done: Reproduction) -> str:
    """Return which look of the plan was taken."""
    seeds = done.plan.looks.seeds
    if done.look == 0:
        return f"before the first look, which is at {seeds[0]} seeds"
    return f"look {done.look} of {len(seeds)}, at {seeds[done.look - 1]} seeds"


def verdict_table(claims: Sequence[ClaimResult], title: str) -> Table:
    """Return the table of the claims with their verdicts."""
    from mamlcli.common.tables import plain_table
    from mamlcli.studies.claims.report_tables import support_words

    table = plain_table(title=title)
    table.add_column("claim", no_wrap=True)
    table.add_column("statement", ratio=1)
    table.add_column("verdict", min_width=10)
    table.add_column("predictions, exact checks", min_width=14)
    for claim in claims:
        table.add_row(claim.id, claim.statement, claim.verdict_words, support_words(claim))
    return table


def open_table(rows: Sequence[Row], done: Reproduction) -> Table:
    """Return the table of open predictions: interval, margin, and what would decide each."""
    from mamlcli.common.tables import plain_table
    from mamlcli.studies.claims.rest import rest_words
    from mamlcli.studies.claims.words import REST, prose

    table = plain_table(
        title="open predictions",
        caption=f"Positive is as predicted. {REST}",
    )
    table.add_column("prediction", ratio=1)
    table.add_column("mean [interval]", min_width=8)
    table.add_column("margin", justify="right", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    table.add_column("would decide", min_width=10)
    for row in rows:
        decision = row.decision
        interval = decision.interval
        table.add_row(
            f"{row.contrast.claim} {prose(decision.prediction.name)}",
            f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]",
            f"{row.contrast.margin:.2g}",
            str(interval.num_seeds),
            rest_words(done.rest[row.contrast.key], decision.verdict),
        )
    return table


def result_parts(done: Reproduction, path: Path) -> Iterator[console.Part]:
    """Yield the verdicts on all claims, what is open, the deviations, the time it took, and where the report is."""
    from mamlcli.studies.claims.calls import elapsed_words
    from mamlcli.studies.claims.registration import command_of

    yield from look_parts(done)
    if done.next_hours is not None:
        yield f"To take it: {command_of(done.plan, path)}"
    if done.not_done:
        yield console.Note(f"not done yet: {'; '.join(done.not_done)}")
    for words in done.deviations:
        yield console.Note(f"deviation from the plan: {words}")
    if done.calls:
        yield console.Note(elapsed_words(done.calls))
    yield console.Note(f"\nReport: {path}/report.html (also report.md, result.json; the plan: plan.json)")
