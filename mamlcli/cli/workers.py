"""`--workers` starts processes that share a run; each of them joins the others here."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.common.errors import Interrupted, MamlError, NonFiniteError, WorkerError
from mamlcli.common.machine import num_cores
from mamlcli.common.processes.ending import ENDING
from mamlcli.common.processes.fresh import program
from mamlcli.common.processes.launch import end_with_parent, run_workers
from mamlcli.common.processes.lifeline import EXIT_LOST
from mamlcli.common.processes.place import Place, half_set, place_in

if TYPE_CHECKING:
    from mamlcli.engine.sharing import WorkerGroup
    from mamlcli.recipe.schema import Recipe


# A run under a launcher is told of after this where the other workers have not come.
_NOTE_AFTER_S = 5.0

# A run's manifest may be a stranger's: of the workers that it names no more are started than this, or than the cores.
_MOST_RECORDED = 8


WorkersOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|N",
        help="Processes that share the tasks of each meta-batch; auto: one for each GPU, one on a CPU. By default 1.",
        show_default=False,
        autocompletion=complete.one_of("auto", "1", "2", "4", "8"),
    ),
]


@contextmanager
def own_group(workers: str | None) -> Iterator[WorkerGroup | None]:
    """Join the workers of the run that this process belongs to; yield None where it is alone.

    Workers other than 0 end quietly where worker 0 ends for the same reason, and says it.

    Args:
        workers: what `--workers` says.
    """
    place = place_in(os.environ, workers)
    if place is None:
        if words := half_set(os.environ, workers):
            console.note(words)
        yield None
        return
    end_with_parent(os.environ)
    ENDING.prepare()
    from mamlcli.engine.sharing import joined
    from mamlcli.engine.waiting import Waiting

    waiting = Waiting()
    note = _waiting_note(place)
    ENDING.is_at_once = True
    try:
        with joined(place, waiting) as group:
            note.cancel()
            try:
                yield group
            finally:
                group.dismiss()  # whatever happens to worker 0, the others do not wait for it
    except WorkerError as error:
        # Under a launcher each worker that meets no other says so; one that is lost later has nothing to add.
        if place.rank == 0 or (place.address and error.where != "workers"):
            raise
        sys.exit(EXIT_LOST)
    except MamlError as error:
        if place.rank == 0:
            raise
        if isinstance(error, NonFiniteError):
            sys.exit(EXIT_LOST)
        raise _of_worker(place.rank, error) from error
    except (Interrupted, KeyboardInterrupt):
        if place.rank == 0:
            raise
        sys.exit(130)
    finally:
        note.cancel()


def _waiting_note(place: Place) -> threading.Timer:
    """Say after a while that this worker waits for the others, and where; nothing where that is cancelled before."""
    from mamlcli.engine.sharing import TIMEOUT

    where = f" at {place.address}" if place.address else ""
    minutes = int(TIMEOUT.total_seconds() // 60)
    text = f"worker {place.rank} waits{where} for the others of {place.num_workers}, for {minutes} minutes at most"
    timer = threading.Timer(_NOTE_AFTER_S, console.note, [text])
    timer.daemon = True
    timer.start()
    return timer


def _of_worker(rank: int, error: MamlError) -> MamlError:
    named = MamlError(f"worker {rank}", expected="")
    named.args = (f"worker {rank}: {error}",)
    return named


def num_workers_of(text: str | None, recipe: Recipe, group: WorkerGroup | None, *, run: Path | None) -> int:
    """Return how many workers a run has: as asked, as a launcher started, as recorded, or one.

    Args:
        text: what `--workers` says.
        recipe: resolved.
        group: that this process is in.
        run: the directory of a run that goes on.

    Raises:
        MamlError: it is no number, more than there are tasks, or not that of torchrun.
    """
    asked = _number(text, recipe)
    number = group.num_workers if group else asked or (_recorded(run) if run else 1)
    if group and asked not in (None, number) and text != "auto":
        raise MamlError(
            "--workers",
            expected=f"{number}, the processes that a launcher such as torchrun started (WORLD_SIZE)",
            got=str(text),
            next_step="Leave it out under torchrun",
        )
    if number > recipe.outer.tasks:
        raise MamlError(
            "--workers",
            expected=f"at most outer.tasks={recipe.outer.tasks}, one task for each",
            got=str(number),
            next_step="Use fewer workers, or more outer.tasks",
        )
    device = recipe.execution.device
    if number > 1 and (device == "mps" or device.startswith("cuda:")):
        has_one = device == "mps"
        raise MamlError(
            "--device",
            expected=f"cuda, cpu or auto for {number} workers",
            got=repr(device),
            why="A Mac has one GPU" if has_one else "Each worker has a GPU of its own: cuda:0, cuda:1, and so on",
            next_step="Use --workers 1" if has_one else "CUDA_VISIBLE_DEVICES chooses among them",
        )
    return number


def _number(text: str | None, recipe: Recipe) -> int | None:
    if text is None:
        return None
    if text == "auto":
        return _num_gpus(recipe)
    if not text.isdecimal() or int(text) < 1:
        raise MamlError("--workers", expected="auto or an integer >= 1", got=repr(text))
    return int(text)


def _num_gpus(recipe: Recipe) -> int:
    """Return the GPUs that the recipe may use, at most one for each task; 1 on a CPU."""
    if recipe.execution.device not in ("auto", "cuda"):
        return 1
    import torch

    return max(min(torch.cuda.device_count(), recipe.outer.tasks), 1)


def _recorded(path: Path) -> int:
    """Return the workers that a run was trained with; one is enough to show a result that is there."""
    from mamlcli.runs.folder import RunDirectory
    from mamlcli.training.manifest import recorded_workers
    from mamlcli.training.scoring import finished_result

    run = RunDirectory.open(path)
    if finished_result(run) is not None:
        return 1
    return max(1, min(recorded_workers(run), max(num_cores(), _MOST_RECORDED)))


def run_in_workers(num_workers: int) -> int:
    """Run this same command in so many processes, show which of them failed, and return the exit code."""
    ending = run_workers(num_workers, program(*sys.argv[1:]))
    for line in ending.problems:
        console.error(line)
    return ending.code
