"""What a reproduction would cost is measured on a few meta-iterations before anything runs, and then on its runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from mamlcli.common.errors import RunError
from mamlcli.common.processes.jobs import IsStopped, Job
from mamlcli.common.processes.pool import Executor, LocalExecutor, run_jobs
from mamlcli.recipe.schema import Recipe
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
from mamlcli.studies.sweeps.sweep import Cell, Sweep, cells_of
from mamlcli.tasks.images.packs import find_pack
from mamlcli.training.dry_run import RunCost, dry_run
from mamlcli.training.placement import process_kept

# Seconds until the processes of a family's sweep have started, with torch loaded; they do so for each family.
START_S = 5.0

# Seconds that a run takes beside training and scoring: it is built, saved, its curve drawn.
END_S = 1.5

# Seconds of the report at the end, its operators and figures included.
REPORT_S = 20.0

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
            appended layers, the premise of C2, starts of processes, and the report.
    """

    num_runs: int
    num_done: int
    num_pilots: int
    total_s: float

    def to_json(self) -> dict[str, object]:
        """Return the machine-readable form, as `mamlcli reproduce --dry-run --json` has it."""
        return dict(vars(self))


def cost_of(plan: Plan, path: Path, *, executor: Executor, device: str | None = None) -> Cost:
    """Return what is missing of the first look of a plan.

    Args:
        plan: the pilots of values without a rate are counted too; families whose pack is not here are not.
        path: of the reproduction; runs that are done there cost nothing.
        executor: will run what is missing; what is measured runs there, too.
        device: where to compute; by default what the recipes say.
    """
    families = [family for family in plan.families if family.pack is None or find_pack(family.pack) is not None]
    amounts = [_Amount.of(plan, family, path / family.key, device) for family in families]
    cells = [cell for amount in amounts for cell in amount.to_measure]
    costs = iter(measured([cell.recipe for cell in cells], executor))
    totals = [amount.seconds(plan, [next(costs) for _ in amount.to_measure]) for amount in amounts]
    starts_s = START_S * sum(total > 0 for total in totals) + (REPORT_S if any(totals) else 0.0)
    return Cost(
        sum(len(amount.cells) for amount in amounts),
        sum(len(amount.cells) - len(amount.missing) for amount in amounts),
        sum(amount.num_pilots * len(amount.without_rate) for amount in amounts),
        sum(totals) / executor.num_processes + starts_s,
    )


def measured(recipes: Sequence[Recipe], executor: Executor) -> list[RunCost]:
    """Return what a run of each recipe costs while as many processes are at work as will be, each with its threads.

    A run that is measured alone has all cores, their caches and the memory for itself, and seems faster than it is.
    """
    if isinstance(executor, LocalExecutor) and (executor.num_processes == 1 or len(recipes) < 2):
        return [dry_run(recipe, with_probe=False) for recipe in recipes]
    jobs = [Job(str(index), measure_run, (recipe, executor.num_threads)) for index, recipe in enumerate(recipes)]
    outcomes = run_jobs(jobs, executor=executor)
    if failed := [outcome.reason for outcome in outcomes.values() if not isinstance(outcome.value, RunCost)]:
        raise RunError("cost", expected="a few meta-iterations of each value", got=failed[0])
    return [cast(RunCost, outcomes[job.key].value) for job in jobs]


def measure_run(payload: tuple[Recipe, int], is_stopped: IsStopped) -> RunCost:
    """Measure one run in a process of a pool, with as many threads as a run has there."""
    recipe, num_threads = payload
    torch.set_num_threads(num_threads)
    with process_kept():
        return dry_run(recipe, with_probe=False)


@dataclass(frozen=True)
class _Amount:
    """What is missing of one family.

    Attributes:
        sweep: of the family, at the first look.
        cells, missing: all of it, and those that are not done.
        without_rate: values that pilots choose a rate for, `num_pilots` each.
        networks: the cells of the premise's networks, if it is missing and has a pair.
    """

    sweep: Sweep
    cells: Sequence[Cell]
    missing: Sequence[Cell]
    without_rate: Sequence[str]
    networks: Sequence[Cell]
    num_pilots: int = RATES_OF_PILOTS * len(PILOT_SEEDS)

    @classmethod
    def of(cls, plan: Plan, family: Family, folder: Path, device: str | None) -> _Amount:
        """Look at what a folder has of a family."""
        sweep = sweep_of(
            family,
            first_seed=plan.first_seed,
            num_seeds=plan.looks.seeds[0],
            control_tasks=plan.control_tasks(family),
            device=device,
        )
        cells = cells_of(sweep)
        missing = [cell for cell in cells if not _is_done(folder / "cells" / cell.name)]
        without_rate = [value.key for value in family.values if value.key not in family.rates]
        is_premise_missing = family.role == "maml" and not (folder / PREMISE).is_file()
        networks = premise_cells(sweep) if is_premise_missing else []
        return cls(sweep, cells, missing, without_rate, networks if len(networks) > 1 else [])

    @property
    def to_measure(self) -> list[Cell]:
        """One cell of each value that costs something."""
        return list({cell.value.label: cell for cell in reversed([*self.missing, *self.networks])}.values())[::-1]

    def seconds(self, plan: Plan, costs: Sequence[RunCost]) -> float:
        """Return the seconds of one process, from the costs of `to_measure`."""
        by_value = {cell.value.label: cost for cell, cost in zip(self.to_measure, costs, strict=True)}
        total, control_tasks = 0.0, self.sweep.control_tasks
        for value in self.sweep.values:
            of_value = [cell for cell in self.missing if cell.value.label == value.label]
            if not of_value:
                continue
            cost = by_value[value.label]
            num_runs = len(of_value) + (self.num_pilots if value.label in self.without_rate else 0)
            total += num_runs * (cost.training_s + cost.evaluation_s + END_S)
            if control_tasks and of_value[0].recipe.model.linear_layers:
                total += len(of_value) * control_seconds(of_value[0], cost, control_tasks)
        if self.networks:
            num_fits = plan.amounts.premise_tasks * plan.amounts.premise_steps
            networks = [premise_seconds(cell, by_value[cell.value.label]) for cell in self.networks]
            total += num_fits * (networks[0] + SHARE_OF_DEEPER * sum(networks[1:]))
        return total


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
    is_open = bool(done.look and later and open_values(done.claims))
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
