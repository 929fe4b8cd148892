"""A run that goes on is searched here for meta-iterations that its metrics lack, or have more than once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby

from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.manifest import Manifest

_MISSING, _DOUBLED = "metrics_missing", "metrics_doubled"
_SHOWN = 5  # ranges, before the rest is a number


def note_holes(run: RunDirectory, iteration: int) -> None:
    """Note in a run's manifest the meta-iterations up to a checkpoint that its metrics have not once.

    Args:
        run: its metrics are rewound to the checkpoint.
        iteration: meta-iterations done at the checkpoint.
    """
    missing, doubled = holes_in(run.read_metrics(), iteration)
    if run.manifest.get(_MISSING, []) != missing or run.manifest.get(_DOUBLED, []) != doubled:
        run.update_manifest({_MISSING: missing, _DOUBLED: doubled})


def holes_in(records: Iterable[Mapping[str, object]], iteration: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return the meta-iterations without a step, and those with several, each as ranges [first, last]."""
    seen = Counter(record["iteration"] for record in records if record.get("kind") == "step")
    missing = [number for number in range(1, iteration + 1) if number not in seen]
    doubled = [number for number in range(1, iteration + 1) if seen[number] > 1]
    return _ranges(missing), _ranges(doubled)


def holes_words(manifest: Manifest) -> str | None:
    """Return in words what is missing from the metrics of a run, from its manifest; None if all is there."""
    parts = [
        f"{_text(ranges)} {what}"
        for key, what in ((_MISSING, "missing from it"), (_DOUBLED, "in it more than once"))
        if isinstance(ranges := manifest.get(key), list) and ranges
    ]
    if not parts:
        return None
    return f"metrics.jsonl: iterations {', '.join(parts)}; weights and results do not depend on it"


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Return ascending numbers as ranges [first, last]."""
    runs = [[number for _, number in group] for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return [[run[0], run[-1]] for run in runs]


def _text(ranges: list[list[int]]) -> str:
    words = [str(first) if first == last else f"{first} to {last}" for first, last in ranges[:_SHOWN]]
    more = f" and {len(ranges) - _SHOWN} more" if len(ranges) > _SHOWN else ""
    return ", ".join(words) + more
