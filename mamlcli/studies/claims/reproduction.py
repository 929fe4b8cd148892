"""A reproduction is a plan, what was run of it, and every claim decided.

Each family of a plan is one sweep: an ordinary study folder under the reproduction's own, so that a cut reproduction
continues where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.contrasts import CellValue
from mamlcli.studies.claims.decisions import HOLDS, MAX_SEEDS, UNDECIDED
from mamlcli.studies.claims.plan import Family, Plan, cell_changes
from mamlcli.studies.claims.predictions import ClaimResult, Row, Study
from mamlcli.studies.claims.result_json import claim_to_json
from mamlcli.studies.sweeps.cell_result import CellResult
from mamlcli.studies.sweeps.scores import GridValue
from mamlcli.studies.sweeps.sweep import AxisValue, Sweep

AXIS = "model.depth x model.linear_layers x inner.transform.name"


@dataclass(frozen=True)
class Rest:
    """A rest is what an open prediction would still need, by the variance and the seconds measured.

    Attributes:
        seeds: of its cells, all together, that would decide it in a single look; None where nothing can be said,
            more than `MAX_SEEDS` where no practical number would.
        hours: of this machine, with the processes that were used; None where nothing can be said.
    """

    seeds: int | None
    hours: float | None

    @property
    def is_practical(self) -> bool:
        """Whether some number of seeds up to `MAX_SEEDS` would decide."""
        return self.seeds is not None and self.seeds <= MAX_SEEDS


@dataclass(frozen=True)
class Reproduction:
    """A reproduction holds every claim of the paper, decided as far as it is.

    Attributes:
        plan: that it follows.
        claims: the decided claims.
        studies: what they rest on.
        deviations: from the plan, in words.
        failures: cells that failed, in words.
        look: the last look that is complete for every cell it needs, from 1; 0 before the first.
        rest: what each open prediction needs, by its key.
        next_seeds, next_hours: the seeds of the plan's next look, and its cost with the processes that were used; None
            where there is no further look or nothing is open.
        wall_s: seconds of computing in all runs together.
    """

    plan: Plan
    claims: tuple[ClaimResult, ...]
    studies: tuple[Study, ...]
    deviations: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    look: int = 0
    rest: Mapping[str, Rest] = field(default_factory=dict)
    next_seeds: int | None = None
    next_hours: float | None = None
    wall_s: float = 0.0

    def to_json(self) -> dict[str, object]:
        """Return the content of result.json; result.schema.json says what is in it."""
        plan, hours = self.plan, {key: rest.hours for key, rest in self.rest.items()}
        return {
            "schema": 1,
            "scale": plan.scale,
            "plan": {
                "digest": plan.digest,
                "looks": {"seeds": list(plan.looks.seeds), "alphas": list(plan.looks.alphas)},
                "first_seed": plan.first_seed,
                "pilot_seeds": list(plan.pilot_seeds),
                "rates_from": plan.rates_from,
                "families": [family.key for family in plan.families],
                "left_out": list(plan.left_out),
                "versions": dict(plan.versions),
                "created": plan.created,
            },
            "deviations": list(self.deviations),
            "failures": list(self.failures),
            "look": self.look,
            "next_look": None if self.next_seeds is None else {"seeds": self.next_seeds, "hours": self.next_hours},
            "wall_s": self.wall_s,
            "claims": [claim_to_json(claim, first_seed=plan.first_seed, hours=hours) for claim in self.claims],
            "studies": {study.key: study.result.to_json() for study in self.studies},
        }


def open_rows(claims: Sequence[ClaimResult]) -> list[Row]:
    """Return the predictions that more seeds could decide something by.

    They are those that decide a claim which is undecided, and do not hold: undecided themselves, or on the other
    side, or without a relevant effect, and waiting for Holm's level.
    """
    undecided = [claim for claim in claims if claim.verdict == UNDECIDED]
    return [row for claim in undecided for row in claim.deciding if row.decision.verdict != HOLDS]


# The families of a plan as sweeps ---------------------------------------------------------------------------------


def sweep_of(family: Family, *, first_seed: int, num_seeds: int, device: str | None = None) -> Sweep:
    """Return the sweep of a family: each value at its own inner rate.

    Args:
        family: of a plan. A value without a rate gets the one that its pilots start from.
        first_seed: of its cells; they count up from it.
        num_seeds: of every value.
        device: where to compute; by default what the recipe says.
    """
    overrides = [*family.changes, f"seed={first_seed}", *([f"execution.device={device}"] if device else [])]
    name, recipe = load_recipe(family.recipe, overrides)
    # Collapsing is about appended layers; a linear model's own depth is not. The control is C3's.
    has_layers = any(value.layers for value in family.values)
    values = tuple(_axis_value(family, value) for value in family.values)
    return Sweep(
        "reproduce",
        AXIS,
        name,
        recipe,
        values,
        num_seeds=num_seeds,
        with_collapse=has_layers,
        with_control=has_layers and family.role == "maml",
    )


def _axis_value(family: Family, value: CellValue) -> AxisValue:
    rate = family.rates.get(value.key, family.first_rates.get(value.key))
    changes = cell_changes(family, value) | ({} if rate is None else {"inner.lr": rate})
    grid = GridValue(value.depth, value.optimizer, value.layers, value.width)
    return AxisValue(grid, value.key, changes, f"reproduce: {family.key}")


def value_of_cell(cell: CellResult) -> CellValue:
    """Return which value of its family a finished cell is."""
    grid = cell.grid
    return CellValue(grid.depth, grid.layers or 0, grid.optimizer, grid.width)


def runs_of(study: Study) -> list[RunDirectory]:
    """Return the runs that a study's scores were read from."""
    return [RunDirectory.open(Path(run)) for cell in study.result.cells for run in cell.run_dirs]


def wall_s(studies: Sequence[Study]) -> float:
    """Return the seconds of computing in all runs of the studies."""
    folders = [folder for study in studies for folder in (Path(study.result.directory) / "cells").glob("*")]
    manifests = [RunDirectory.open(folder).manifest for folder in folders if (folder / "manifest.json").is_file()]
    return sum(manifest.wall_s or 0.0 for manifest in manifests)


def seconds_of_values(study: Study) -> dict[str, float]:
    """Return the seconds of one run of each value of a study, the mean of its runs, by value key."""
    seconds = {}
    for cell in study.result.cells:
        walls = [RunDirectory.open(Path(run)).manifest.wall_s for run in cell.run_dirs]
        known = [wall for wall in walls if wall]
        if known:
            seconds[value_of_cell(cell).key] = sum(known) / len(known)
    return seconds
