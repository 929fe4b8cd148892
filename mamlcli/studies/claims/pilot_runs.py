"""The run directory of one pilot: whether it is the one that is asked for, and what it scored."""

from __future__ import annotations

import math
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import RunError
from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import RunReport
from mamlcli.runs.search import is_run
from mamlcli.studies.sweeps.cells import finished_report
from mamlcli.studies.sweeps.folder import DEVICE

# Is written to the run directory of a pilot that diverged: it would do so again, bit for bit.
DIVERGED = "diverged.json"


def check_pilot(folder: Path, recipe: Recipe) -> None:
    """Refuse a folder that holds a pilot of another recipe; where it was computed does not count.

    Raises:
        RunError: with the keys that differ.
    """
    difference = recipe_difference(RunDirectory(folder).recipe, recipe) if is_run(folder) else {}
    difference.pop(DEVICE, None)
    if difference:
        listed = ", ".join(f"{key} ({old!r} there, {new!r} here)" for key, (old, new) in difference.items())
        raise RunError(
            str(folder),
            expected="a pilot of this plan",
            got=f"one of another recipe: {listed}",
            why="Its score would choose the inner rate of other cells than those that are tested",
            next_step="Name another --dir, or delete this folder and run the same command again",
        )


def pilots_words(folder: Path) -> str:
    """Return in words how far the pilots of a plan that is not yet made have come."""
    runs = [run for run in folder.glob("*/*") if is_run(run)]
    num_done = sum(pilot_loss(run) is not None for run in runs)
    families = ", ".join(sorted({run.parent.name for run in runs}))
    return f"pilots alone, which choose inner learning rates: {num_done} of {len(runs)} begun are done ({families})"


def pilots_command(folder: Path) -> str:
    """Return in words what goes on with pilots: the command that a run among them notes, if it is one."""
    argvs = [RunDirectory(run).manifest.argv for run in sorted(folder.glob("*/*")) if is_run(run)]
    words = next((argv[1:] for argv in argvs if argv[1:2] == ["reproduce"]), None)
    return "Go on as it was begun" if words is None else f"Go on with its pilots: {command(*words)}"


def pilot_report(folder: Path) -> RunReport | None:
    """Return the result of a pilot; None where it is not done."""
    return finished_report(RunDirectory(folder)) if is_run(folder) else None


def pilot_loss(folder: Path) -> float | None:
    """Return the meta-validation query loss of a pilot; infinite where it diverged, None where it is not done."""
    if (folder / DIVERGED).is_file():
        return math.inf
    report = pilot_report(folder)
    if report is None:
        return None
    loss = report.final.mean("loss")
    return loss if math.isfinite(loss) else math.inf
