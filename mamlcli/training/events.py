"""Writes the scalars of a run as TensorBoard event files, beside metrics.jsonl, where the recipe asks for them.

tensorboard/             meta-training by meta-iteration: outer_loss, accuracy, grad_norm, lr, validation/*
tensorboard/evaluation/  the final adaptation curve by inner step: evaluation/query_loss, ...
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

from mamlcli.common.disk import naming
from mamlcli.common.errors import MamlError
from mamlcli.runs.report import RunReport

FOLDER = "tensorboard"


_NO_SCALARS = ("kind", "iteration", "elapsed_s")


_EVALUATION_TAGS = {
    "loss": "query_loss",
    "accuracy": "query_accuracy",
    "support_loss": "support_loss",
    "support_accuracy": "support_accuracy",
}


def check_event_log(logging: str) -> None:
    """Raise MamlError unless what `logging` asks for is installed.

    Args:
        logging: the recipe key, "none" or "tensorboard".
    """
    if logging == "tensorboard":
        _summary_writer()


class _Writer(Protocol):
    """What is used of torch's SummaryWriter."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _writer(folder: Path, purge_step: int | None = None) -> _Writer:
    """Return what writes the event files of a folder; records from `purge_step` on are hidden from readers."""
    made: _Writer = _summary_writer()(str(folder), purge_step=purge_step)
    return made


def _summary_writer() -> type:
    """Return torch's SummaryWriter, or raise MamlError where its package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MamlError(
            "logging",
            expected="the package tensorboard for logging=tensorboard",
            got=str(error),
            next_step="Run: pip install tensorboard, or set logging=none",
        ) from error
    writer: type = SummaryWriter
    return writer


class EventLog:
    """Writes the records of metrics.jsonl as scalars; does nothing with logging "none".

    Every record is on disk when `write` returns, so that a run that is killed leaves whole event files.

    Args:
        logging: the recipe key.
        run: the run's folder.
        iteration: meta-iterations done at the checkpoint that training goes on from, 0 for none. What an earlier
            process wrote for this one and later ones is hidden from readers.
        records: of metrics.jsonl, as rewound to that checkpoint; those of `iteration` itself are written again, as
            its step and its validation may lie on different sides of the checkpoint.
    """

    def __init__(self, logging: str, run: Path, iteration: int, records: Iterable[Mapping[str, object]]) -> None:
        self._writer: _Writer | None = None
        self._folder = run / FOLDER
        if logging == "tensorboard":
            self._writer = _writer(self._folder, purge_step=iteration)
            for record in records:
                if _iteration(record) >= iteration:
                    self.write(record)

    def write(self, record: Mapping[str, object]) -> None:
        """Write the numbers of one step or validation record."""
        if self._writer is None:
            return
        prefix = "" if record["kind"] == "step" else f"{record['kind']}/"
        scalars = record.items() if record["kind"] in ("step", "validation") else ()
        with naming(self._folder):
            for key, value in scalars:
                if isinstance(value, int | float) and not isinstance(value, bool) and key not in _NO_SCALARS:
                    self._writer.add_scalar(f"{prefix}{key}", value, _iteration(record))
            self._writer.flush()

    def close(self) -> None:
        """Close the event files; every record was on disk, or its error raised, when it was written."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()


def _iteration(record: Mapping[str, object]) -> int:
    """Return the meta-iterations done at a record of the metrics."""
    iteration = record["iteration"]
    assert isinstance(iteration, int)
    return iteration


def log_evaluation(logging: str, run: Path, report: RunReport) -> None:
    """Write the adaptation curve of a report by inner step, in place of an earlier one."""
    if logging != "tensorboard":
        return
    folder = run / FOLDER / "evaluation"
    shutil.rmtree(folder, ignore_errors=True)
    with closing(_writer(folder)) as writer:
        for point in report.curve:
            for metric, name in _EVALUATION_TAGS.items():
                score = point.scores.of(metric)
                if score is not None and score.mean is not None:
                    writer.add_scalar(f"evaluation/{name}", score.mean, point.step)
