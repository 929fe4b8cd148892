"""Writes and reads the checkpoints of a run, each a file with a checksum of all its bytes; the one before it is kept.

A file holds tensors and primitives, so that they can never disagree. Its checksum stands in it, and is that of the file
with zeros in the checksum's place. Files of earlier versions have none, and are read as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mamlcli.common.errors import RunError
from mamlcli.common.files import atomic_write
from mamlcli.runs.folder import RunDirectory

# Under which a checkpoint's header has the checksum and the primitives, as JSON; the checksum first, where it is found.
STATE_KEY = "mamlcli"
_CHECKSUM, _STATE = "blake2b", "state"
_UNFILLED = "0" * 64

Checkpoint = tuple[dict[str, Tensor], dict[str, Any]]


def checkpoint_path(run: RunDirectory, which: str) -> Path:
    """Return the file of the checkpoint "last" (the whole training state) or "best" (meta-parameters alone)."""
    return run.path / "checkpoints" / f"{which}.safetensors"


def path_before(run: RunDirectory, which: str) -> Path:
    """Return the file of the checkpoint that was "last" or "best" before the one that is now."""
    return checkpoint_path(run, f"{which}-before")


def save_checkpoint(
    run: RunDirectory, which: str, tensors: Mapping[str, Tensor], primitives: Mapping[str, Any]
) -> None:
    """Write a checkpoint of a run; the one that is there becomes the one before it."""
    cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    state = json.dumps({_CHECKSUM: _UNFILLED, _STATE: primitives})
    content = _with_checksum(save_tensors(cpu, metadata={STATE_KEY: state}))
    atomic_write(checkpoint_path(run, which), content, kept_as=path_before(run, which))


def load_checkpoint(run: RunDirectory, which: str) -> Checkpoint | None:
    """Return (tensors, primitives) of a checkpoint; None if there is none.

    Where it is missing and the one before it is there, it is that one: writing was cut between two renames, or a
    damaged file was removed.

    Raises:
        RunError: the file is damaged; the message says whether the one before it is whole.
    """
    path, before = checkpoint_path(run, which), path_before(run, which)
    if not path.is_file():
        return _read(before) if before.is_file() else None
    try:
        return _read(path)
    except RunError as error:
        raise _with_offer(error, before) from error


def check_best(run: RunDirectory, best_iteration: int) -> None:
    """Raise RunError for a damaged "best", before training goes on: it would be read at its end.

    Args:
        run: that goes on from its last checkpoint.
        best_iteration: meta-iterations done at the best meta-validation, as the last checkpoint has it.
    """
    try:
        load_checkpoint(run, "best")
    except RunError as error:
        earlier = path_before(run, "last")
        iteration = _iteration_of(earlier)
        if iteration is None or iteration >= best_iteration:
            raise
        way = f"Remove it and {checkpoint_path(run, 'last').name}: training goes on from {earlier.name}, of iteration"
        raise RunError(
            error.where,
            expected=error.expected,
            got=error.got,
            why="It can be made again",
            next_step=f"{way} {iteration}, before the best, of iteration {best_iteration}",
        ) from error


def is_the_one_before(run: RunDirectory, which: str) -> bool:
    """Return whether `load_checkpoint` gives the checkpoint before one that is missing."""
    return not checkpoint_path(run, which).is_file() and path_before(run, which).is_file()


def _read(path: Path) -> Checkpoint:
    """Return the content of a checkpoint's file.

    Tensors are copied out of the bytes, where they lie as the length of the header has it: a BLAS may round by the
    place of a tensor in memory, and the weights of a run would score otherwise than the same weights.
    """
    try:
        content = path.read_bytes()
        tensors = {name: value.clone() for name, value in load_tensors(content).items()}
        return tensors, _primitives(content)
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError, OSError) as error:
        got = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        next_step = "Copy it again from where the run came from, or train again with --force"
        raise RunError(str(path), expected="a whole checkpoint", got=got, next_step=next_step) from error


def _with_offer(error: RunError, before: Path) -> RunError:
    """Return the error of a damaged checkpoint that says whether the one before it can be used, and how."""
    iteration, next_step = _iteration_of(before), error.next_step
    if not before.is_file():
        why = None
    elif iteration is None:
        why = f"{before.name}, the one before it, is damaged, too"
    else:
        why = f"{before.name}, the one before it, is whole: it is of iteration {iteration}"
        next_step = "To go on from that one, remove the damaged file"
    return RunError(error.where, expected=error.expected, got=error.got, why=why, next_step=next_step)


def _iteration_of(path: Path) -> int | None:
    """Return the meta-iterations done at a checkpoint; None where it is not there or damaged."""
    try:
        return int(_read(path)[1]["iteration"])
    except (RunError, KeyError, ValueError, TypeError):
        return None


# The checksum -----------------------------------------------------------------------------------------------------


def _with_checksum(content: bytes) -> bytes:
    """Return the content of a file with its checksum in the place that was left for it."""
    start = content.index(_UNFILLED.encode())
    return content[:start] + _checksum(content, start) + content[start + len(_UNFILLED) :]


def _checksum(content: bytes, start: int) -> bytes:
    """Return the checksum of a file, which has its place at `start`."""
    view = memoryview(content)
    digest = hashlib.blake2b(view[:start], digest_size=len(_UNFILLED) // 2)
    digest.update(_UNFILLED.encode())
    digest.update(view[start + len(_UNFILLED) :])
    return digest.hexdigest().encode()


def _primitives(content: bytes) -> dict[str, Any]:
    """Return the primitives in a file whose checksum agrees, or that is of a version without checksums.

    Raises:
        ValueError: the checksum does not agree; KeyError, TypeError: it is no checkpoint.
    """
    length = int.from_bytes(content[:8], "little")
    noted: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][STATE_KEY])
    # One changed byte cannot take away both keys.
    if _CHECKSUM not in noted and _STATE not in noted:
        return {**noted}
    checksum = noted[_CHECKSUM].encode()
    if checksum != _checksum(content, content.index(checksum)):
        raise ValueError("one whose checksum does not agree: something in it has changed since it was written")
    return {**noted[_STATE]}
