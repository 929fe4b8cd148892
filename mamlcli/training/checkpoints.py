"""Writes and reads the checkpoints of a run, a file each, so that tensors and primitives can never disagree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from mamlcli.common.errors import RunError
from mamlcli.common.files import atomic_write
from mamlcli.runs.folder import RunDirectory

# Under which a checkpoint's header has the primitives, as JSON.
STATE_KEY = "mamlcli"


def checkpoint_path(run: RunDirectory, which: str) -> Path:
    """Return the file of the checkpoint "last" (the whole training state) or "best" (meta-parameters alone)."""
    return run.path / "checkpoints" / f"{which}.safetensors"


def save_checkpoint(
    run: RunDirectory, which: str, tensors: Mapping[str, Tensor], primitives: Mapping[str, Any]
) -> None:
    """Write a checkpoint of a run, in place of the one before it."""
    cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    atomic_write(checkpoint_path(run, which), save_tensors(cpu, metadata={STATE_KEY: json.dumps(primitives)}))


def load_checkpoint(run: RunDirectory, which: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return (tensors, primitives) of a checkpoint; None if there is none.

    Tensors are copied out of the file, where they lie as the length of its header has it: a BLAS may round by the
    place of a tensor in memory, and the weights of a run would score otherwise than the same weights.

    Raises:
        RunError: the file is damaged.
    """
    path = checkpoint_path(run, which)
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt", device="cpu") as archive:
            metadata = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name).clone() for name in archive.keys()}  # noqa: SIM118
        return tensors, json.loads(metadata[STATE_KEY])
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise RunError(
            str(path),
            expected="a whole checkpoint",
            got=f"{type(error).__name__}: {error}",
            next_step="Train again with --force",
        ) from error
