"""A part of the check: bounded in time, its results kept whatever ends it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch


@dataclass
class Part:
    """What one part has found so far.

    Attributes:
        name: as in `--only`.
        rows: of its table, primitives.
        lines: what it comes to, for people.
        unseen: what it could not see, and why.
        holds: whether what it checks is so; None where it measures only, or saw nothing.
        error: what ended it before its end.
        seconds: that it took.
    """

    name: str
    rows: list[dict[str, object]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    holds: bool | None = None
    error: str | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Setting:
    """Where and how much is checked.

    Attributes:
        device: that is checked against the CPU; the CPU itself where there is no other.
        is_small: a small form, in which every line of the check runs in seconds.
        until: time.monotonic() at which the part begins nothing new.
    """

    device: torch.device
    is_small: bool
    until: float

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def is_over(self) -> bool:
        return time.monotonic() > self.until


def run_part(part: Part, function: Callable[[Part, Setting], None], setting: Setting) -> None:
    """Run a part; an error of whatever kind ends this part alone, and is kept."""
    began = time.monotonic()
    try:
        function(part, setting)
    except Exception as error:
        part.error = f"{type(error).__name__}: {error}"
        part.lines.append("".join(traceback.format_exception(error)[-3:]).rstrip())
        part.holds = False if part.holds is not None else None
    part.seconds = round(time.monotonic() - began, 1)
