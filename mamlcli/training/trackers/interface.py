"""The interface of trackers: what a tracker is told of a run, in which order; packages with trackers import this.

    class Lines(Tracker):
        def begin(self, run):
            self.file = open(run.folder / "lines.txt", "a")

        def record(self, step, values):
            print(step, values["outer_loss"], file=self.file)

A package makes it known in its pyproject.toml, and recipes name it: `logging: [csv, lines]`.

    [project.entry-points."mamlcli.trackers"]
    lines = "my_package:Lines"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mamlcli.runs.metrics import MetricsRecord, records_of

# Of a record of the metrics, these are no values.
_NO_VALUES = ("kind", "iteration", "elapsed_s")

Value = str | int | float | bool | None


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run when it begins, and again when it is resumed.

    Attributes:
        name: the run's folder's name.
        recipe: the name of its recipe.
        path: its folder, absolute.
        folder: a folder of the tracker's own in it, for what it keeps: an id to go on with. It is there already.
        study: the name of the folder of the study that the run is a cell of; None of a run by itself.
        settings: the resolved recipe, values by dotted keys such as "inner.lr"; lists as text.
        iteration: meta-iterations done at the checkpoint that training goes on from; 0 for a run that begins.
        num_bytes: length of metrics.jsonl, as rewound to that checkpoint.
    """

    name: str
    recipe: str
    path: Path
    folder: Path
    study: str | None
    settings: Mapping[str, Value]
    iteration: int
    num_bytes: int

    def past(self) -> Iterator[tuple[str, int, dict[str, float]]]:
        """Yield what was recorded up to the checkpoint, (kind, step, values); the kind is "step" or "validation".

        Records come again in this way after a cut; a tracker passes over those that it has.
        """
        if not self.num_bytes:
            return
        with (self.path / "metrics.jsonl").open("rb") as stream:
            for record in records_of(_Beginning(stream, self.num_bytes)):  # type: ignore[arg-type]
                if record["kind"] in ("step", "validation"):
                    yield record["kind"], record["iteration"], values_of(record)


class _Beginning:
    """Reads the first bytes of a stream, as if it ended after them."""

    def __init__(self, stream: object, num_bytes: int) -> None:
        self._read = stream.read  # type: ignore[attr-defined]
        self._left = num_bytes

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`."""
        data: bytes = self._read(min(size, self._left))
        self._left -= len(data)
        return data


class Tracker:
    """A tracker writes down elsewhere what a run does. What a subclass does not define is passed over.

    Trackers of packages live in a process of their own: whatever they raise, print or wait for, the run is not changed
    by it. A call that raises ends the tracker, with one warning; the next process that resumes the run tries again.
    """

    def begin(self, run: TrackedRun) -> None:
        """Begin to track a run, or go on with it: its settings are known, its first step is not done."""

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Take one meta-iteration: outer_loss, accuracy (classification), grad_norm, lr; some may be NaN."""

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Take the scores of meta-validation after a meta-iteration: loss, accuracy."""

    def scores(self, curve: Sequence[Mapping[str, float]]) -> None:
        """Take the final scores, a point for each inner step.

        Args:
            curve: points with `step` (inner steps done), query_loss, support_loss, and of classification
                query_accuracy and support_accuracy: means over the meta-test tasks.
        """

    def figure(self, name: str, path: Path) -> None:
        """Take a figure, a PNG file."""

    def end(self, status: str) -> None:
        """Write all that is not written yet: the run is "done", "stopped early", "interrupted" or "failed"."""


def values_of(record: MetricsRecord | Mapping[str, object]) -> dict[str, float]:
    """Return the numbers of a record of the metrics by their names."""
    return {
        name: float(value)
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in _NO_VALUES
    }
