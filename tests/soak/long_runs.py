"""Measures memory, threads and open files of a long training and a long evaluation: they stay as they are.

python -m tests.soak.long_runs FOLDER ITERATIONS TASKS    # prints a list of `Held` as JSON
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

SHARE = 0.02
_KEYS = {
    "outer.tasks": 2,
    "outer.checkpoint_every": 50,
    "validation.every": 100,
    "validation.tasks": 4,
    "evaluation.tasks": 10,
    "tasks.shots": 4,
    "tasks.queries": 3,
    "inner.steps": 1,
    "execution.threads": 1,
    "execution.device": "cpu",
}


@dataclass
class Held:
    """What a process holds after a fifth of its work and at the end.

    Attributes:
        what: the work.
        memory_mb, threads, files: each (then, at the end).
    """

    what: str
    memory_mb: tuple[float, float]
    threads: tuple[int, int]
    files: tuple[int, int]

    def fault(self) -> str | None:
        """Return what grew by more than `SHARE`; None where nothing did."""
        grown = [
            f"{name} {then} -> {now}"
            for name, (then, now) in (("MB", self.memory_mb), ("threads", self.threads), ("files", self.files))
            if now > then * (1 + SHARE)
        ]
        return ", ".join(grown) or None


def held_now() -> tuple[float, int, int]:
    """Return resident memory in MB, threads and open files of this process; what it has freed is given back before."""
    gc.collect()
    with suppress(AttributeError, OSError):  # another C library than that of GNU
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory_mb = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return round(memory_mb, 1), len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def compared(what: str, first: Callable[[], object], rest: Callable[[], object]) -> Held:
    """Return what this process holds after the first part of some work and after the rest."""
    first()
    then = held_now()
    rest()
    (memory, threads, files), (memory_now, threads_now, files_now) = then, held_now()
    return Held(what, (memory, memory_now), (threads, threads_now), (files, files_now))


def measured(folder: Path, iterations: int, tasks: int) -> list[Held]:
    """Train and evaluate for long in this process, and return what it held."""
    import mamlcli
    from mamlcli.runs.folder import RunDirectory
    from mamlcli.training.rescoring import adapt_run

    seen: list[tuple[float, int, int]] = []

    def look(record: object) -> None:
        at = getattr(record, "iteration", 0)
        if type(record).__name__ == "StepRecord" and at in (iterations // 5, iterations - 1):
            seen.append(held_now())

    run = folder / "run"
    mamlcli.train("logistic", {**_KEYS, "outer.iterations": iterations}, run_dir=run, on_record=look)
    (memory, threads, files), (memory_now, threads_now, files_now) = seen
    training = Held(f"{iterations} iterations", (memory, memory_now), (threads, threads_now), (files, files_now))

    def score(number: int) -> None:
        for _ in range(number):
            adapt_run(RunDirectory.open(run), num_tasks=tasks // 20)

    return [training, compared(f"{tasks} evaluation tasks", lambda: score(4), lambda: score(16)), whole(run, tasks)]


def whole(run: Path, tasks: int) -> Held:
    """Return what is held after all tasks were scored at once, beside half of them."""
    from mamlcli.runs.folder import RunDirectory
    from mamlcli.training.rescoring import adapt_run

    directory = RunDirectory.open(run)
    return compared(
        f"{tasks} evaluation tasks at once",
        lambda: adapt_run(directory, num_tasks=tasks // 2),
        lambda: adapt_run(directory, num_tasks=tasks),
    )


if __name__ == "__main__":
    place, *numbers = sys.argv[1:]
    print(json.dumps([asdict(held) for held in measured(Path(place), *map(int, numbers))]))  # noqa: T201
