"""Looks at the names that installed packages add to recipes: whether each can be used, and which two packages share."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from mamlcli.cli.diagnosis.findings import LACKING, OK, Finding
from mamlcli.common.plugins import OWN_TRACKERS, TRACKERS, installed, package_of
from mamlcli.recipe.plugins import GROUPS, PluginError, own_names, plugin_keys


def plugin_findings() -> Iterator[Finding]:
    """Look at every plug-in; the modules of their keys are imported, their code is not."""
    import_module("mamlcli.recipe.schema")  # `own_names` are there once it is imported
    for path, group in GROUPS.items():
        for name in installed(group):
            yield _finding(group, name, own_names(path))
    for name, points in installed(TRACKERS).items():
        packages = ", ".join(map(package_of, points))
        if name in OWN_TRACKERS:
            yield _shadowed(TRACKERS, name, packages)
        elif len(points) > 1:
            yield Finding("plug-ins", name, LACKING, f"tracker of {packages}", "no run can name it", "Keep one of them")
        else:
            yield Finding("plug-ins", name, OK, f"tracker of {packages}")


def _finding(group: str, name: str, own: tuple[str, ...]) -> Finding:
    kind = {"networks": "network", "tasks": "tasks", "transforms": "transform"}[group.rpartition(".")[2]]
    packages = ", ".join(map(package_of, installed(group)[name]))
    if name in own:
        return _shadowed(group, name, packages)
    try:
        plugin_keys(group, name)
    except PluginError as error:
        found = f"{kind} of {packages}: expected {error.expected}, got {error.got}"
        return Finding(
            "plug-ins", name, LACKING, found, "no recipe can name it", (error.next_step or "").partition(";")[0]
        )
    return Finding("plug-ins", name, OK, f"{kind} of {packages}")


def _shadowed(group: str, name: str, packages: str) -> Finding:
    found = f"of {packages} by the entry point {group}, which is a name of mamlcli's own"
    return Finding("plug-ins", name, LACKING, found, "the name means mamlcli's own", "Ask for another name")
