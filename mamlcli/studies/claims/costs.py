"""What a reproduction would cost is measured here, on a few meta-iterations of each value, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mamlcli.runs.folder import RunDirectory, is_run
from mamlcli.studies.claims.plan import PILOT_SEEDS, Plan
from mamlcli.studies.claims.reproduction import sweep_of
from mamlcli.studies.sweeps.sweep import Cell, cells_of
from mamlcli.tasks.images.packs import find_pack
from mamlcli.training.dry_run import dry_run

# Rates that the pilots of a value try, as a rule: the grid with its growth, and the refinement.
RATES_OF_PILOTS = 7


@dataclass(frozen=True)
class Cost:
    """A cost is how many runs are missing and how long they would take.

    Attributes:
        num_runs: of all cells.
        num_done: of them, done before.
        num_pilots: runs that choose inner rates, about.
        total_s: seconds of everything that is missing, with the processes asked for.
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
    num_runs = num_missing = num_pilots = 0
    total = 0.0
    for family in plan.families:
        if family.pack is not None and find_pack(family.pack) is None:
            continue
        cells = cells_of(sweep_of(family, first_seed=plan.first_seed, num_seeds=plan.looks.seeds[0], device=device))
        missing = [cell for cell in cells if not _is_done(path / family.key / "cells" / cell.name)]
        num_runs, num_missing = num_runs + len(cells), num_missing + len(missing)
        for value in family.values:
            of_value = [cell for cell in missing if cell.value.label == value.key]
            pilots = 0 if value.key in family.rates else RATES_OF_PILOTS * len(PILOT_SEEDS)
            num_pilots += pilots
            if of_value:
                total += _seconds(of_value[0]) * (len(of_value) + pilots)
    return Cost(num_runs, num_runs - num_missing, num_pilots, total / num_processes)


def _seconds(cell: Cell) -> float:
    cost = dry_run(cell.recipe)
    return cost.training_s + cost.evaluation_s


def _is_done(folder: Path) -> bool:
    return is_run(folder) and RunDirectory(folder).has_report
