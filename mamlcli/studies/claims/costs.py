"""What a reproduction would cost is measured on a few meta-iterations before anything runs, and then on its runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from mamlcli.recipe.tasks_schema import ImageKeys
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.search import is_run
from mamlcli.studies.claims.contrasts import LOSS
from mamlcli.studies.claims.decisions import UNDECIDED
from mamlcli.studies.claims.plan import PILOT_SEEDS, Family, Plan
from mamlcli.studies.claims.predictions import ClaimResult, Row
from mamlcli.studies.claims.premise import MAX_EXAMPLES, PREMISE, premise_cells
from mamlcli.studies.claims.reproduction import (
    Reproduction,
    all_values,
    open_rows,
    open_values,
    seconds_of_values,
    sweep_of,
)
from mamlcli.studies.claims.rest import (
    NewPlan,
    Rest,
    first_new_seed,
    most_seeds,
    new_plan_command,
    seeds_of_open,
)
from mamlcli.studies.sweeps.collapsed_control import NUM_RATES
from mamlcli.studies.sweeps.sweep import Cell, cells_of
from mamlcli.tasks.images.packs import find_pack
from mamlcli.training.dry_run import RunCost, dry_run

# Rates that the pilots of a value try, as a rule: the grid with its growth, and the refinement.
RATES_OF_PILOTS = 7

# Gradients that a step of the inner loop costs in training, where the meta-gradient goes through it.
GRADIENTS_OF_INNER_STEP = 3

# Of the premise's steps, those after which deeper networks have fitted their examples: some 300 of 1,000 on glyphs.
SHARE_OF_DEEPER = 0.3


@dataclass(frozen=True)
class Cost:
    """A cost is how many runs are missing and how long they would take.

    Attributes:
        num_runs: of all cells.
        num_done: of them, done before.
        num_pilots: runs that choose inner rates, about.
        total_s: seconds of everything that is missing, with the processes asked for: runs, pilots, controls of
            appended layers, and the premise of C2.
    """

    num_runs: int
    num_done: int
    num_pilots: int
    total_s: float

    def to_json(self) -> dict[str, object]:
        """Return the machine-readable form, as `mamlcli reproduce --dry-run --json` has it."""
        return dict(vars(self))


def cost_of(plan: Plan, path: Path, *, num_processes: int, device: str | None = None) -> Cost:
    """Return what is missing of the first look of a plan.

    Args:
        plan: the pilots of values without a rate are counted too; families whose pack is not here are not.
        path: of the reproduction; runs that are done there cost nothing.
        num_processes: runs at the same time.
        device: where to compute; by default what the recipes say.
    """
    families = [family for family in plan.families if family.pack is None or find_pack(family.pack) is not None]
    costs = [_family_cost(plan, family, path / family.key, device) for family in families]
    return Cost(
        sum(cost.num_runs for cost in costs),
        sum(cost.num_done for cost in costs),
        sum(cost.num_pilots for cost in costs),
        sum(cost.total_s for cost in costs) / num_processes,
    )


def _family_cost(plan: Plan, family: Family, folder: Path, device: str | None) -> Cost:
    """Return what is missing of one family, in seconds of one process."""
    amounts, num_seeds = plan.amounts, plan.looks.seeds[0]
    sweep = sweep_of(
        family,
        first_seed=plan.first_seed,
        num_seeds=num_seeds,
        control_tasks=amounts.control_tasks,
        device=device,
    )
    cells, measured = cells_of(sweep), dict[str, RunCost]()
    missing = [cell for cell in cells if not _is_done(folder / "cells" / cell.name)]

    def measure(cell: Cell) -> RunCost:
        if cell.value.label not in measured:
            measured[cell.value.label] = dry_run(cell.recipe)
        return measured[cell.value.label]

    without_rate = [value.key for value in family.values if value.key not in family.rates]
    of_each = RATES_OF_PILOTS * len(PILOT_SEEDS)
    total = 0.0
    for value in sweep.values:
        of_value = [cell for cell in missing if cell.value is value]
        if not of_value:
            continue
        cost = measure(of_value[0])
        num_runs = len(of_value) + (of_each if value.label in without_rate else 0)
        total += num_runs * (cost.training_s + cost.evaluation_s)
        if sweep.control_tasks and of_value[0].recipe.model.linear_layers:
            total += len(of_value) * control_seconds(of_value[0], cost, sweep.control_tasks)
    if family.role == "maml" and not (folder / PREMISE).is_file():
        networks = [(cell, measure(cell)) for cell in premise_cells(sweep)]
        if len(networks) > 1:
            num_fits = amounts.premise_tasks * amounts.premise_steps
            shallow, *deeper = (premise_seconds(cell, cost) for cell, cost in networks)
            total += num_fits * (shallow + SHARE_OF_DEEPER * sum(deeper))
    return Cost(len(cells), len(cells) - len(missing), of_each * len(without_rate), total)


def control_seconds(cell: Cell, cost: RunCost, control_tasks: int) -> float:
    """Return about how long a cell's control takes: its grid of rates on meta-validation tasks, then its scores."""
    num_rates = NUM_RATES + 2
    return cost.evaluation_s * (num_rates * control_tasks / cell.recipe.evaluation.tasks + 1)


def premise_seconds(cell: Cell, cost: RunCost) -> float:
    """Return about how long one step of the premise's training takes on one task, from that of a meta-iteration."""
    recipe, tasks = cell.recipe, cell.recipe.tasks
    assert isinstance(tasks, ImageKeys), "the premise is one of image tasks"
    gradients = GRADIENTS_OF_INNER_STEP * recipe.inner.steps * tasks.shots + tasks.queries
    return cost.seconds_per_iteration / recipe.outer.tasks / gradients * MAX_EXAMPLES


def _is_done(folder: Path) -> bool:
    return is_run(folder) and RunDirectory(folder).has_report


# What the rest would cost -------------------------------------------------------------------------------------------


def with_costs(done: Reproduction, *, num_processes: int) -> Reproduction:
    """Return a reproduction with what its open predictions, its next look and a new plan would cost."""
    looks = done.plan.looks
    seconds = {study.key: seconds_of_values(study) for study in done.studies}
    there = {
        (study.key, value): len(seeds) for study in done.studies for value, seeds in study.scores.get(LOSS, {}).items()
    }

    def hours(values: Collection[tuple[str, str]], num_seeds: int, *, is_new: bool = False) -> float:
        missing = [(key, value, num_seeds - (0 if is_new else there.get((key, value), 0))) for key, value in values]
        total = sum(max(num, 0) * seconds.get(key, {}).get(value, 0.0) for key, value, num in missing)
        return total / num_processes / 3600

    def rest_of(row: Row, claim: ClaimResult) -> Rest:
        values = [(row.contrast.study, value) for value in row.contrast.cells]
        num_deciding = len(claim.deciding)
        num = seeds_of_open(row.decision, num_deciding, looks, is_new_plan=False)
        is_new = not later or num is None or num > looks.seeds[-1]
        if is_new:
            num = seeds_of_open(row.decision, num_deciding, looks, is_new_plan=True)
        return Rest(num, None if num is None else hours(values, num, is_new=is_new), is_new)

    later = [num for num in looks.seeds if num > looks.seeds[done.look - 1]] if done.look else list(looks.seeds)
    claims = [claim for claim in done.claims if claim.verdict == UNDECIDED]
    rest = {row.contrast.key: rest_of(row, claim) for claim in claims for row in open_rows([claim])}
    new_seeds = most_seeds(list(rest.values()))
    is_open = bool(done.look and later and rest)
    return replace(
        done,
        rest=rest,
        next_seeds=later[0] if is_open else None,
        next_hours=hours(open_values(done.claims), later[0]) if is_open else None,
        new_plan=None
        if new_seeds is None
        else NewPlan(
            new_seeds,
            first_new_seed(done.plan),
            hours(all_values(done.plan.families), new_seeds, is_new=True),
            new_plan_command(done.plan, new_seeds),
        ),
    )
