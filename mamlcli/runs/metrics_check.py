"""Notices where lines of metrics.jsonl were lost or changed since they were written, and rewinds the file.

The manifest notes how long the file was and what its digest was when this process last wrote to it in order: at each
checkpoint and at the end. Lines are appended and never changed, so that the noted part stays as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mamlcli.common.bounded import open_regular
from mamlcli.common.files import whole_file
from mamlcli.runs.metrics import MetricsRecord, is_kept, lines_in, pieces_of, records_of_lines

_PIECE = 1 << 20


class MetricsMark:
    """Knows the length and the digest of what was written to the metrics so far."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._hash = hashlib.sha256()

    def add(self, written: bytes) -> None:
        """Take in what was appended."""
        self.num_bytes += len(written)
        self._hash.update(written)

    def to_json(self) -> dict[str, object]:
        """Return the mark as the manifest holds it."""
        return {"bytes": self.num_bytes, "sha256": self._hash.hexdigest()}


@dataclass
class StepCount:
    """Counts the steps of a file, which should be numbered from 1 without a gap, and lines that hold no record."""

    expected: int = 1
    num_missing: int = 0
    num_unreadable: int = 0
    num_repeated: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def see(self, records: list[MetricsRecord | None]) -> None:
        """Take in the records of lines that follow."""
        steps = [record["iteration"] for record in records if record is not None and record["kind"] == "step"]
        self.num_unreadable += records.count(None)
        if steps == list(range(self.expected, self.expected + len(steps))):
            self.expected += len(steps)
            return
        for step in steps:
            if step < self.expected:
                self.num_repeated += 1
            else:
                self._skip_to(step)
                self.expected = step + 1

    def end(self, iteration: int) -> None:
        """Take in that there should be as many steps as this."""
        self._skip_to(iteration + 1)

    def words(self) -> list[str]:
        """Return what is wrong, in words; empty if nothing is."""
        found = []
        if self.num_missing:
            spans = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in self.gaps[:3])
            more = " and others" if len(self.gaps) > 3 else ""
            found.append(f"the records of {_count(self.num_missing, 'step')} are missing (iteration {spans}{more})")
        if self.num_repeated:
            found.append(f"{_count(self.num_repeated, 'step')} recorded twice")
        if self.num_unreadable:
            found.append(f"{_count(self.num_unreadable, 'line')} without a record")
        return found

    def _skip_to(self, step: int) -> None:
        if step > self.expected:
            self.num_missing += step - self.expected
            if len(self.gaps) < 4:
                self.gaps.append((self.expected, step - 1))


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' * (number != 1)}"


def is_as_marked(path: Path, mark: Mapping[str, object]) -> bool:
    """Return whether the metrics begin with what was written when the mark was noted.

    Raises:
        OSError, ValueError: the file cannot be read.
    """
    left = mark["bytes"]
    assert isinstance(left, int)
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        if os.fstat(stream.fileno()).st_size < left:
            return False
        while left and (data := stream.read(min(left, _PIECE))):
            digest.update(data)
            left -= len(data)
    return not left and digest.hexdigest() == mark["sha256"]


def noticed_in(path: Path, mark: Mapping[str, object] | None, num_steps: int) -> list[str]:
    """Return in words what was lost or changed in the metrics since a mark was noted; empty if nothing was.

    Args:
        path: metrics.jsonl; where it is missing, all is lost.
        mark: of the manifest; None for a run of an earlier version, of which nothing can be said.
        num_steps: that the file should tell of.
    """
    if mark is None or not mark["bytes"]:
        return []
    try:
        if is_as_marked(path, mark):
            return []
        count = StepCount()
        with open_regular(path) as stream:
            for piece in pieces_of(stream):
                count.see(records_of_lines(lines_in(piece)))
    except FileNotFoundError:
        return ["the file is missing"]
    except (OSError, ValueError) as error:
        return [f"the file cannot be read: {error}"]
    count.end(num_steps)
    return count.words() or ["lines were changed after they were written"]


def rewound(path: Path, *, iteration: int, last_validated: int) -> tuple[MetricsMark, StepCount]:
    """Drop the records that training from a checkpoint will write again, and lines that hold none.

    The file is written anew beside the old one and put in its place, whole or not at all.

    Args:
        path: metrics.jsonl; it may be missing.
        iteration: meta-iterations done at the checkpoint.
        last_validated: meta-iterations done at its last validation.

    Returns:
        The mark of what is left, and its steps. A last line that a crash has cut is nothing that is wrong.

    Raises:
        OSError: it cannot be read or written; ValueError: it is no file.
    """
    mark, count = MetricsMark(), StepCount()
    with whole_file(path) as out, contextlib.suppress(FileNotFoundError), open_regular(path) as stream:
        for piece in pieces_of(stream):
            _copy(piece, out, mark, count, iteration=iteration, last_validated=last_validated)
    count.end(iteration)
    return mark, count


def _copy(
    piece: bytes, out: IO[bytes], mark: MetricsMark, count: StepCount, *, iteration: int, last_validated: int
) -> None:
    lines = lines_in(piece)
    records = records_of_lines(lines)
    if lines and records[-1] is None and not piece.endswith(b"\n"):
        lines, records = lines[:-1], records[:-1]  # cut by a crash
    kept = [
        (line, record)
        for line, record in zip(lines, records, strict=True)
        if record is None or is_kept(record, iteration=iteration, last_validated=last_validated)
    ]
    count.see([record for _, record in kept])
    written = b"".join(line + b"\n" for line, record in kept if record is not None)
    out.write(written)
    mark.add(written)
