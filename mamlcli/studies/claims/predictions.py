"""What claims are decided on, and what they come to: studies with scores by seed, rows of predictions, exact checks.

These types hold no rule; the rules stand in `claims`, the statistics in `decisions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mamlcli.studies.claims.contrasts import Contrast, Scores
from mamlcli.studies.claims.decisions import Decision
from mamlcli.studies.layers.optimum import OptimumReport
from mamlcli.studies.sweeps.result import StudyResult

if TYPE_CHECKING:
    from mamlcli.studies.claims.premise import PremiseRecord


@dataclass(frozen=True)
class Study:
    """A study holds the finished cells of one family of a reproduction.

    Attributes:
        key: of the family, as in "glyphs-maml".
        words: for tables, as in "glyphs, MAML".
        role: of the family: "linear-regression", "logistic", "maml" or "anil".
        scores: measure -> value key -> seed -> the seed's mean over its meta-test tasks after adaptation.
        result: of the sweep.
        operators: value key -> the learned operators of each seed, if they are finite, beside the best one; linear
            regression alone.
        premises: of C2, one for each deeper network; none where they were not tested.
        notes: what is to be known of the scores, in words.
    """

    key: str
    words: str
    role: str
    scores: Scores
    result: StudyResult
    operators: Mapping[str, Sequence[OptimumReport]] = field(default_factory=dict)
    premises: tuple[PremiseRecord, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FailedCell:
    """A failed cell is one that ended by an error, other than that its training diverged.

    Attributes:
        name: study and cell in words, as in "glyphs, MAML, depth 2, seed 101".
        reason: in words.
    """

    name: str
    reason: str

    @property
    def words(self) -> str:
        """Which cell, and why."""
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class ExactCheck:
    """An exact check is a statement that is true to rounding or false.

    Attributes:
        name: in words.
        value: the largest error found.
        tolerance: the most that rounding explains.
    """

    name: str
    value: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the error is one that rounding explains."""
        return self.value <= self.tolerance


@dataclass(frozen=True)
class Row:
    """A row is a registered prediction with its outcome.

    Attributes:
        contrast: as the plan has it.
        study_words: of its study, for tables.
        decision: on the seeds there are.
    """

    contrast: Contrast
    study_words: str
    decision: Decision


@dataclass(frozen=True)
class ClaimResult:
    """A claim result is a decided claim with all that its verdict rests on, and what is shown beside it.

    Attributes:
        id: "C1" to "C7".
        statement: of the claim.
        rule: what it predicts of the numbers measured.
        verdict: "holds", "fails", "no relevant effect" or "undecided".
        rows: the predictions that have data, in the order of the plan.
        checks: the exact parts of the claim.
        missing: deciding predictions that have no data, in words.
        notes: further numbers, in words; they decide nothing.
        beside_notes: of the rows beside the claim.
        failed: cells that failed and that an undecided claim needs; it waits for them.
    """

    id: str
    statement: str
    rule: str
    verdict: str
    rows: tuple[Row, ...]
    checks: tuple[ExactCheck, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    beside_notes: tuple[str, ...] = ()
    failed: tuple[FailedCell, ...] = ()

    @property
    def verdict_words(self) -> str:
        """The verdict, and the cell whose failure keeps it from another one, if there is one."""
        if not self.failed:
            return self.verdict
        more = f" and {len(self.failed) - 1} more" if len(self.failed) > 1 else ""
        return f"{self.verdict}: cell {self.failed[0].name}{more} failed"

    @property
    def deciding(self) -> tuple[Row, ...]:
        """The rows that the verdict rests on."""
        return tuple(row for row in self.rows if row.contrast.decides)

    @property
    def beside(self) -> tuple[Row, ...]:
        """The rows with a verdict of their own, which decide nothing of the claim."""
        return tuple(row for row in self.rows if not row.contrast.decides)
