"""Tells with what each part of a run was computed: a run that goes on may do so elsewhere, or with other versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mamlcli.runs.manifest import Manifest

Part = Mapping[str, Any]

# What of the data stands in a part: the rest is that of the whole run.
_OF_DATA = ("source", "digest")


def parts_with(manifest: Manifest, part: Part) -> list[Part]:
    """Return the parts of a manifest and a new one, without those of which nothing is left.

    A part that began where the new one begins, or later, has saved nothing. The first part of a run that an earlier
    version began is taken from the keys of its manifest.
    """
    parts = manifest.parts
    if not parts and part["iteration"]:
        parts = [{"iteration": 0, "started_at": manifest.started_at, **_computed_with(manifest)}]
    return [*(old for old in parts if old["iteration"] < part["iteration"]), part]


def all_parts(manifest: Manifest) -> list[Part]:
    """Return the parts of a run, at least one."""
    return manifest.parts or [_computed_with(manifest)]


def new_part(iteration: int, started_at: str, notes: Mapping[str, Any]) -> Part:
    """Return the part of a run that begins now.

    Args:
        iteration: meta-iterations done.
        started_at: the time now.
        notes: the keys of the manifest that say what the run is computed with.
    """
    return {"iteration": iteration, "started_at": started_at, **_computed_with(notes)}


def _computed_with(notes: Mapping[str, Any]) -> Part:
    data = notes.get("data") or {}
    of_data = {key: data[key] for key in _OF_DATA if data.get(key) is not None}
    rest = {key: notes.get(key) for key in ("argv", "device", "execution", "versions", "git")}
    return {**rest, "data": of_data}


def values_over_parts(manifest: Manifest, *keys: str) -> object:
    """Return the value that a key had in the parts of a run; several, in their order, are joined by "then"."""
    values = [_value(part, keys) for part in all_parts(manifest)]
    different = [value for index, value in enumerate(values) if index == 0 or value != values[index - 1]]
    return different[0] if len(different) == 1 else ", then ".join(map(str, different))


def _value(part: Part, keys: Sequence[str]) -> object:
    value: Any = part
    for key in keys:
        value = (value or {}).get(key)
    return value


def part_words(manifest: Manifest, iteration: int) -> list[str]:
    """Return a line for each part of a run that was trained in several; none for a run of one part.

    Args:
        manifest: of the run.
        iteration: meta-iterations done in all.
    """
    parts = manifest.parts
    if len(parts) < 2:
        return []
    ends = [*(part["iteration"] for part in parts[1:]), max(iteration, parts[-1]["iteration"])]
    return [_words(part, end) for part, end in zip(parts, ends, strict=True)]


def _words(part: Part, end: int) -> str:
    git, versions = part.get("git") or {}, part.get("versions") or {}
    data = part.get("data") or {}
    commit = f"git {git['commit'][:12]}{', with changes' if git.get('is_dirty') else ''}" if git.get("commit") else None
    words = [
        part.get("started_at"),
        part.get("device"),
        ", ".join(f"{name} {version}" for name, version in versions.items() if name != "platform"),
        commit,
        f"data {data['digest']}" if data.get("digest") else None,
    ]
    begin = part["iteration"] + 1
    span = f"iterations {begin} to {end}" if end >= begin else f"from iteration {begin}"
    return f"{span}: {'; '.join(word for word in words if word)}"
