"""What open predictions still need: seeds and hours, in the plan's further looks or in a new plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mamlcli.common.commands import command
from mamlcli.common.tables import duration
from mamlcli.studies.claims.decisions import ALPHA, MAX_SEEDS, UNDECIDED, Decision, Looks, seeds_to_decide
from mamlcli.studies.claims.plan import OF_PILOTS, Plan
from mamlcli.studies.claims.scales import SCALES


@dataclass(frozen=True)
class Rest:
    """A rest is what an open prediction would still need, by the variance and the seconds measured.

    Attributes:
        seeds: of its cells, all together, that would decide it in a single look; None where that cannot be estimated,
            more than `MAX_SEEDS` where no practical number would.
        hours: of this machine, with the processes that were used; None where they cannot be estimated. In a new plan
            they are those of all its seeds, else of those that are missing.
        is_new_plan: whether the plan has no look left at so many seeds: its error is spent, and seeds added to it
            would have no valid level.
    """

    seeds: int | None
    hours: float | None
    is_new_plan: bool = False

    @property
    def is_practical(self) -> bool:
        """Whether some number of seeds up to `MAX_SEEDS` would decide."""
        return self.seeds is not None and self.seeds <= MAX_SEEDS


@dataclass(frozen=True)
class NewPlan:
    """A new plan is one whose single look would decide what this plan left open, on seeds that were never seen.

    Attributes:
        seeds: of its look, the most that an open prediction needs.
        first_seed: beyond all seeds of this plan.
        hours: of all its cells, with the processes that were used.
        command: that registers and runs it.
    """

    seeds: int
    first_seed: int
    hours: float
    command: str

    @property
    def words(self) -> str:
        """Say in one sentence what the new plan is and what it costs; in Markdown, as the command is code."""
        return (
            "Seeds that are added to this plan beyond its looks have no valid level. A new plan with one look at "
            f"{self.seeds} seeds, on seeds that are not these: `{self.command}`, about {duration(3600 * self.hours)}."
        )


def seeds_of_open(decision: Decision, num_deciding: int, looks: Looks, *, is_new_plan: bool) -> int | None:
    """Return the seeds at which a single look would decide an open prediction.

    Estimated from the mean and the variance so far, at the level of the plan's last look, or of the only look of a
    new plan. What is decided by itself and waits for Holm's correction needs its smallest level, alpha / M.

    Args:
        decision: of a prediction that decides a claim which is undecided, and that does not hold.
        num_deciding: predictions that decide the claim; each has two tests, of "fails" and of "no relevant effect".
        looks: of the plan.
        is_new_plan: whether the look is that of a new plan, on other seeds.
    """
    prediction = decision.prediction
    alpha = ALPHA if is_new_plan else looks.alphas[-1]
    at_least = 2 if is_new_plan else max(len(prediction.differences) + 1, looks.seeds[0])
    if decision.verdict != UNDECIDED:
        alpha /= 2 * num_deciding
    return seeds_to_decide(prediction.differences, prediction.margin, alpha, at_least=at_least)


def new_plan_command(plan: Plan, num_seeds: int) -> str:
    """Return the command that registers and runs a plan of one look on seeds beyond those of a plan."""
    scale = SCALES[plan.scale]() if plan.scale in SCALES else None
    keys = {family.key for family in plan.families}
    optional = {} if scale is None else scale.optional
    asked = [name for name, families in optional.items() if {family.key for family in families} <= keys]
    parts = ["reproduce", "--scale", plan.scale, "--seeds", str(num_seeds)]
    parts += ["--first-seed", str(first_new_seed(plan)), *(part for name in asked for part in ("--family", name))]
    parts += ["--choose-rates"] if plan.rates_from == OF_PILOTS and _has_rates(plan) else []
    return command(*parts, "--dir", "NEW")


def _has_rates(plan: Plan) -> bool:
    """Return whether the plan's scale has rates of its own, so that pilots run only where they are asked for."""
    return plan.scale in SCALES and all(family.rates for family in SCALES[plan.scale]().families)


def first_new_seed(plan: Plan) -> int:
    """Return the first seed that no look of a plan has."""
    return plan.seeds(plan.looks.seeds[-1]).stop


def rest_words(rest: Rest, verdict: str) -> str:
    """Return in words what would decide an open prediction."""
    own = f"{verdict} by itself; for the claim " if verdict != UNDECIDED else ""
    if rest.seeds is None or rest.hours is None:
        return f"{own}cannot be estimated: all seeds differ by the same"
    if not rest.is_practical:
        return f"{own}more than {MAX_SEEDS} seeds"
    return f"{own}{rest.seeds} seeds{' in a new plan' if rest.is_new_plan else ''}, {duration(3600 * rest.hours)}"


def most_seeds(rests: Sequence[Rest]) -> int | None:
    """Return the seeds of a new plan that decides all that is practical; None where there is nothing of the kind."""
    return max((rest.seeds for rest in rests if rest.is_practical and rest.is_new_plan and rest.seeds), default=None)
