"""The tracker `tensorboard` writes the scalars of a run as TensorBoard event files, beside metrics.jsonl.

tensorboard/             meta-training by meta-iteration: outer_loss, accuracy, grad_norm, lr, validation/*; settings
tensorboard/evaluation/  the final adaptation curve by inner step: evaluation/query_loss, ...; figures
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from mamlcli.training.trackers.interface import TrackedRun, Tracker

FOLDER = "tensorboard"


class _Writer(Protocol):
    """What is used of torch's SummaryWriter."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def add_text(self, tag: str, text_string: str) -> None: ...

    def add_image(self, tag: str, img_tensor: object, *, dataformats: str) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _writer(folder: Path, purge_step: int | None = None) -> _Writer:
    """Return what writes the event files of a folder; records from `purge_step` on are hidden from readers."""
    from torch.utils.tensorboard import SummaryWriter

    made: _Writer = SummaryWriter(str(folder), purge_step=purge_step)
    return made


class EventFiles(Tracker):
    """Writes records as scalars. Every one is on disk when the call returns, so that a kill leaves whole files."""

    def begin(self, run: TrackedRun) -> None:
        """Open the event files; what an earlier process wrote from the checkpoint on is hidden from readers.

        The records of the checkpoint's iteration are written again: its step and its validation may lie on different
        sides of it.
        """
        self._folder = run.path / FOLDER
        self._writer = _writer(self._folder, purge_step=run.iteration)
        for kind, step, values in run.past():
            if step >= run.iteration:
                self._write("" if kind == "step" else f"{kind}/", step, values)
        if not run.iteration:
            rows = "".join(f"| {key} | {value} |\n" for key, value in run.settings.items())
            self._writer.add_text("settings", f"| key | value |\n|---|---|\n{rows}")
        self._writer.flush()

    def record(self, step: int, values: Mapping[str, float]) -> None:
        self._write("", step, values)
        self._writer.flush()

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        self._write("validation/", step, values)
        self._writer.flush()

    def _write(self, prefix: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{prefix}{name}", value, step)

    def scores(self, curve: Sequence[Mapping[str, float]]) -> None:
        """Write the adaptation curve by inner step, in place of an earlier one."""
        shutil.rmtree(self._folder / "evaluation", ignore_errors=True)
        with closing(_writer(self._folder / "evaluation")) as writer:
            for point in curve:
                for name in set(point) - {"step"}:
                    writer.add_scalar(f"evaluation/{name}", point[name], int(point["step"]))

    def figure(self, name: str, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as image, closing(_writer(self._folder / "evaluation")) as writer:
            writer.add_image(name, np.asarray(image.convert("RGB")), dataformats="HWC")

    def end(self, status: str) -> None:
        self.close()

    def close(self) -> None:
        """Close the event files."""
        self._writer.close()
