"""What was done otherwise than the plan says is named here, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mamlcli.common.machine import short_versions
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.search import is_run
from mamlcli.studies.claims.evidence import is_diverged
from mamlcli.studies.claims.frozen import changed_recipes
from mamlcli.studies.claims.plan import Family, OpenedPlan, Plan
from mamlcli.studies.claims.registration import code_versions, how_to_get


def deviations(
    opened: OpenedPlan, path: Path, absent: Sequence[Family], unfinished: int | None = None
) -> tuple[str, ...]:
    """Return every deviation from a plan that its folder shows.

    Args:
        opened: the plan.
        path: of the reproduction.
        absent: families of the plan whose pack is not here any more.
        unfinished: seeds of a look that was not complete when the hours were spent; None for none.
    """
    plan, found = opened.plan, []
    if opened.is_edited:
        found.append(
            f"plan.json was changed after it was registered: its content has the digest {plan.digest[:12]}, it was "
            f"registered as {opened.registered[:12]}; nothing more is run, and the verdicts are not those of a "
            "registered plan"
        )
    found += [f"this version has other recipes than the plan: {words}" for words in changed_recipes(plan)]
    found += [f"left out of the scale: {words}" for words in plan.left_out]
    for family in absent:
        found.append(f"{family.words}: its pack is not here any more ({how_to_get(str(family.pack))}); not run")
    runs = list(_runs(plan, path))
    found += _other_code(plan, runs)
    last = plan.seeds(plan.looks.seeds[-1])
    beyond = [run for run in runs if (run.manifest.seed or 0) not in last]
    if beyond:
        found.append(f"{_count(len(beyond), 'run')} of other seeds than the plan's; they decide nothing")
    diverged = [run for run in runs if is_diverged(run)]
    if diverged:
        names = ", ".join(f"{run.path.parent.parent.name}/{run.path.name}" for run in diverged[:3])
        more = f" and {len(diverged) - 3} more" if len(diverged) > 3 else ""
        found.append(f"{_count(len(diverged), 'run')} diverged and scored as guessing does: {names}{more}")
    if unfinished is not None:
        found.append(
            f"the hours were spent before the look at {unfinished} seeds was complete; predictions that lack seeds "
            "of it are decided at the looks before"
        )
    return tuple(found)


def _runs(plan: Plan, path: Path) -> Iterator[RunDirectory]:
    for family in plan.families:
        for folder in sorted((path / family.key / "cells").glob("*")):
            if is_run(folder):
                yield RunDirectory.open(folder)


def _other_code(plan: Plan, runs: Sequence[RunDirectory]) -> list[str]:
    """Return which versions of code and libraries runs have that are not the plan's, and how many."""
    others: Counter[tuple[str, str]] = Counter()
    planned = short_versions(plan.versions)
    for run in runs:
        versions = code_versions(run.manifest.versions, run.manifest.git)
        others.update((name, found) for name, found in versions.items() if planned.get(name, found) != found)
    return [
        f"{_count(num, 'run')} with {name} {found}, where the plan has {planned[name]}"
        for (name, found), num in sorted(others.items())
    ]


def _count(num: int, what: str) -> str:
    return f"{num} {what}{'s' if num != 1 else ''}"
