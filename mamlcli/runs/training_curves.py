"""Reads the curves of meta-training from a run's metrics; a file of a million lines takes about a second.

The lines of steps, which are nearly all, are read by a pattern of what this program writes, and others as JSON.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mamlcli.common.bounded import open_regular
from mamlcli.runs.metrics import MetricsRecord, pieces_of, records_in

CURVE_NAMES = {
    "step": {"outer_loss": "outer loss", "accuracy": "outer accuracy"},
    "validation": {"loss": "meta-validation loss", "accuracy": "meta-validation accuracy"},
}

_NUMBER = rb"[-+.0-9e]{1,40}"
_STEP = re.compile(
    rb'^\{"kind": "step", "iteration": (\d{1,15}), "outer_loss": (%b), "accuracy": (null|%b), '
    rb'"grad_norm": %b, "lr": %b, "elapsed_s": %b\}$' % ((_NUMBER,) * 5),
    re.MULTILINE,
)
_NO_STEP = re.compile(rb'\n(?!\{"kind": "step", "iteration": )[^\n]+')


@dataclass(frozen=True)
class TrainingCurve:
    """Holds one quantity of meta-training: its values, and the meta-iterations that were done at each."""

    iteration: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))

    def to_json(self) -> dict[str, object]:
        """Return the curve as `runs show --json` prints it."""
        return {"iteration": self.iteration.tolist(), "value": self.value.tolist()}


def training_curves(metrics: Path) -> dict[str, TrainingCurve]:
    """Return the curves of meta-training that a file of metrics holds, by name; none where it cannot be read."""
    curves = {name: TrainingCurve() for names in CURVE_NAMES.values() for name in names.values()}
    try:
        with open_regular(metrics) as stream:
            for piece in pieces_of(stream):
                _read_piece(piece, curves)
    except (OSError, ValueError):
        return {}
    return {name: curve for name, curve in curves.items() if curve.value}


def _read_piece(piece: bytes, curves: Mapping[str, TrainingCurve]) -> None:
    steps, others = _STEP.findall(piece), _NO_STEP.findall(b"\n" + piece)
    records = records_in(b"".join(others))
    is_plain = len(steps) + len(others) == piece.count(b"\n") + (not piece.endswith(b"\n"))
    if not is_plain or any(record["kind"] == "step" for record in records) or not _add_steps(steps, curves):
        records = records_in(piece)
    for record in records:
        _add(record, curves)


def _add_steps(steps: list[tuple[bytes, bytes, bytes]], curves: Mapping[str, TrainingCurve]) -> bool:
    """Add steps to their curves; return whether their numbers could be read, else nothing is added."""
    scored = [(iteration, value) for iteration, _, value in steps if value != b"null"]
    try:
        iterations = array("q", [int(at) for at, _, _ in steps])
        losses = array("d", [float(loss) for _, loss, _ in steps])
        scored_at = array("q", [int(at) for at, _ in scored])
        accuracies = array("d", [float(value) for _, value in scored])
    except ValueError:
        return False
    for name, iteration, value in (("outer loss", iterations, losses), ("outer accuracy", scored_at, accuracies)):
        curves[name].iteration.extend(iteration)
        curves[name].value.extend(value)
    return True


def _add(record: MetricsRecord, curves: Mapping[str, TrainingCurve]) -> None:
    numbers: Mapping[str, object] = record
    for key, name in CURVE_NAMES.get(record["kind"], {}).items():
        value = numbers.get(key)
        if isinstance(value, int | float):
            curves[name].iteration.append(record["iteration"])
            curves[name].value.append(value)
