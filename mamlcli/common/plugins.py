"""Names that installed packages add to the closed sets of recipes are found here, by their entry points."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

TRACKERS = "mamlcli.trackers"

# Groups of entry points whose names a recipe may have at one of its keys, and those of recipes of packages.
NETWORKS, TASKS, TRANSFORMS = "mamlcli.networks", "mamlcli.tasks", "mamlcli.transforms"

RECIPES = "mamlcli.recipes"

NO_TRACKER = "none"

# The trackers that ship with mamlcli; no package can take their names.
OWN_TRACKERS = ("tensorboard", "csv", "mlflow")


@lru_cache
def installed(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return the entry points of a group by their names, sorted; no package is imported.

    A name has several entry points where several packages have taken it.
    """
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        others = found.get(point.name, ())
        # A name of another form could not be typed, or would be a path. A package may be listed twice.
        if re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", point.name) and point.value not in [other.value for other in others]:
            found[point.name] = (*others, point)
    return found


def tracker_names() -> tuple[str, ...]:
    """Return what the recipe key `logging` may name: the trackers that ship with mamlcli, then installed ones."""
    return (NO_TRACKER, *OWN_TRACKERS, *(name for name in installed(TRACKERS) if name not in OWN_TRACKERS))


def named_trackers(logging: Iterable[str]) -> tuple[str, ...]:
    """Return the trackers that a recipe's `logging` names; none stands for none."""
    return tuple(name for name in logging if name != NO_TRACKER)


def unknown_tracker(name: str) -> str | None:
    """Return what was expected in the place of a name that is no tracker, or that two packages have; else None."""
    known = tracker_names()
    if name not in known:
        return f"one or several of {', '.join(known)} (other packages add names by the entry point {TRACKERS})"
    points = installed(TRACKERS).get(name, ())
    if name not in OWN_TRACKERS and len(points) > 1:
        packages = ", ".join(map(package_of, points))
        return f"a tracker that one installed package has; {name} is in {packages}: uninstall all but one"
    return None


def package_of(point: EntryPoint) -> str:
    """Return the installed package that an entry point is of, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
