"""Reads and writes the records of metrics.jsonl: one JSON object a line, appended as training goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TypedDict


class MetricsRecord(TypedDict, total=False):
    """Holds one line of metrics.jsonl: kind, iteration and time, and numbers that depend on the kind.

    Attributes:
        kind: "step", "validation" or "stop".
        iteration: meta-iterations done.
        elapsed_s: seconds since this process began to train the run.
        outer_loss: of a step.
        loss: of a validation.
        accuracy: of either, for classification.
    """

    kind: str
    iteration: int
    elapsed_s: float
    outer_loss: float
    loss: float
    accuracy: float


def records_in(content: bytes) -> list[MetricsRecord]:
    """Return the whole records in the content of metrics.jsonl, without lines that a crash has cut."""
    return [record for line in content.splitlines() if (record := _record(line)) is not None]


def last_record_in(content: bytes) -> MetricsRecord:
    """Return the last whole record; an empty record if there is none."""
    lines = reversed(content.splitlines())
    return next((record for line in lines if (record := _record(line)) is not None), MetricsRecord())


def metrics_line(record: Mapping[str, object]) -> str:
    """Return a record as a line of metrics.jsonl."""
    return json.dumps(record) + "\n"


def records_until(records: Iterable[MetricsRecord], *, iteration: int, last_validated: int) -> list[MetricsRecord]:
    """Return the records that training from a checkpoint will not write again.

    Args:
        records: in the order of the file.
        iteration: meta-iterations done at the checkpoint.
        last_validated: meta-iterations done at its last validation.
    """
    return [
        record
        for record in records
        if record["iteration"] <= (iteration if record["kind"] == "step" else last_validated)
    ]


def _record(line: bytes) -> MetricsRecord | None:
    """Return the record in a line; None if there is none."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("iteration"), int):
        return None
    record: MetricsRecord = value  # type: ignore[assignment]
    return record
