"""A reproduction is a plan, what was run of it, and every claim decided.

Each family of a plan is one sweep: an ordinary study folder under the reproduction's own, so that a cut reproduction
continues where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mamlcli.common.machine import short_versions
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.calls import Call
from mamlcli.studies.claims.contrasts import CellValue
from mamlcli.studies.claims.decisions import HOLDS, UNDECIDED
from mamlcli.studies.claims.plan import PILOTS, Family, Plan, cell_changes
from mamlcli.studies.claims.predictions import ClaimResult, Row, Study
from mamlcli.studies.claims.rest import NewPlan, Rest
from mamlcli.studies.claims.result_json import claim_to_json, study_to_json
from mamlcli.studies.sweeps.cell_result import CellResult
from mamlcli.studies.sweeps.collapsed_control import read_control
from mamlcli.studies.sweeps.scores import GridValue
from mamlcli.studies.sweeps.sweep import AxisValue, Sweep

# Rows of the cost table beside those of the studies.
PREMISE_PART, PILOTS_PART = "premise of C2", "pilots, which choose inner rates"

AXIS = "model.depth x model.linear_layers x inner.transform.name"


@dataclass(frozen=True)
class Reproduction:
    """A reproduction holds every claim of the paper, decided as far as it is.

    Attributes:
        plan: that it follows.
        claims: the decided claims.
        studies: what they rest on.
        deviations: from the plan, in words.
        failures: cells that failed, in words.
        not_done: which runs of the last look that was asked for are not done, in words; none where it is complete.
        look: the last look that is complete for every cell it needs, from 1; 0 before the first.
        rest: what each open prediction needs, by its key.
        next_seeds, next_hours: the seeds of the plan's next look, and its cost with the processes that were used; None
            where there is no further look or nothing is open.
        new_plan: that would decide what this plan's looks do not, where it is practical; else None.
        wall_s: seconds of computing in all processes together: runs, controls, the premise, pilots.
        calls: of the program that ran something of it, each with its time and its processes.
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
    new_plan: NewPlan | None = None
    wall_s: float = 0.0
    calls: tuple[Call, ...] = ()
    not_done: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the content of result.json; result.schema.json says what is in it."""
        plan, new_plan = self.plan, self.new_plan
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
                "versions": short_versions(plan.versions),
                "created": plan.created,
            },
            "deviations": list(self.deviations),
            "failures": list(self.failures),
            "not_done": list(self.not_done),
            "look": self.look,
            "next_look": None if self.next_seeds is None else {"seeds": self.next_seeds, "hours": self.next_hours},
            "new_plan": None if new_plan is None else asdict(new_plan),
            "wall_s": self.wall_s,
            "calls": [asdict(call) for call in self.calls],
            "premises": [
                {"study": study.key, **record.to_json()} for study in self.studies for record in study.premises
            ],
            "claims": [claim_to_json(claim, first_seed=plan.first_seed, rest=self.rest) for claim in self.claims],
            "studies": {study.key: study_to_json(study.result) for study in self.studies},
        }


def open_rows(claims: Sequence[ClaimResult]) -> list[Row]:
    """Return the predictions that more seeds could decide something by.

    They are those that decide a claim which is undecided, and do not hold: undecided themselves, or on the other
    side, or without a relevant effect, and waiting for Holm's level.
    """
    undecided = [claim for claim in claims if claim.verdict == UNDECIDED]
    return [row for claim in undecided for row in claim.deciding if row.decision.verdict != HOLDS]


def all_values(families: Sequence[Family]) -> list[tuple[str, str]]:
    """Return (family, value) of every cell of the families."""
    return [(family.key, value.key) for family in families for value in family.values]


def open_values(claims: Sequence[ClaimResult]) -> list[tuple[str, str]]:
    """Return (family, value) of the cells that open predictions need, but for claims that wait for failed cells."""
    rows = open_rows([claim for claim in claims if not claim.failed])
    pairs = [(row.contrast.study, value) for row in rows for value in row.contrast.cells]
    return list(dict.fromkeys(pairs))


# The families of a plan as sweeps ---------------------------------------------------------------------------------


def sweep_of(
    family: Family, *, first_seed: int, num_seeds: int, control_tasks: int = 0, device: str | None = None
) -> Sweep:
    """Return the sweep of a family: each value at its own inner rate.

    Args:
        family: of a plan. A value without a rate gets the one that its pilots start from.
        first_seed: of its cells; they count up from it.
        num_seeds: of every value.
        control_tasks: meta-validation tasks of C3's control, which stacks have; 0 for no control.
        device: where to compute; by default what the recipe says.
    """
    overrides = [*family.changes, f"seed={first_seed}", *([f"execution.device={device}"] if device else [])]
    name, recipe = load_recipe(family.recipe, overrides)
    # Collapsing is about appended layers; a linear model's own depth is not. The control is that of C3 and C6.
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
        control_tasks=control_tasks if has_layers else 0,
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


def seconds_of_parts(path: Path, studies: Sequence[Study]) -> dict[str, float]:
    """Return the seconds of computing, in all processes together: of each study by its words, then of what is beside.

    Those of a study are of its runs, finished or not, with the controls of appended layers; beside them are the
    premise of C2 and the pilots.

    Args:
        path: of the reproduction.
        studies: of it.
    """
    parts = {study.words: _seconds_of_runs((Path(study.result.directory) / "cells").glob("*")) for study in studies}
    beside = {
        PREMISE_PART: sum(record.wall_s for study in studies for record in study.premises),
        PILOTS_PART: _seconds_of_runs((path / PILOTS).glob("*/*")),
    }
    return parts | {words: seconds for words, seconds in beside.items() if seconds}


def _seconds_of_runs(folders: Iterable[Path]) -> float:
    runs = [RunDirectory(folder) for folder in folders if (folder / "manifest.json").is_file()]
    controls = [read_control(run.path) for run in runs]
    return sum(run.manifest.wall_s or 0.0 for run in runs) + sum(control.wall_s for control in controls if control)


def seconds_of_values(study: Study) -> dict[str, float]:
    """Return the seconds of one run of each value of a study, the mean of its runs, by value key."""
    seconds = {}
    for cell in study.result.cells:
        walls = [RunDirectory.open(Path(run)).manifest.wall_s for run in cell.run_dirs]
        known = [wall for wall in walls if wall]
        if known:
            seconds[value_of_cell(cell).key] = sum(known) / len(known)
    return seconds
