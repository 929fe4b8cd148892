"""Decides whether a recipe's meta-gradients are replayed as CUDA graphs, and makes what replays them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mamlcli.common.errors import DeviceError, MamlError
from mamlcli.engine.execution import Execution
from mamlcli.engine.graphs import CudaRecorder, Graphs
from mamlcli.recipe.schema import Recipe


def has_graphs(recipe: Recipe, device: torch.device) -> bool:
    """Return whether meta-gradients of the explicit path are replayed as CUDA graphs, where recordings are right."""
    return device.type == "cuda" and recipe.execution.cuda_graphs != "off"


def require_graphs(recipe: Recipe, device: torch.device, how: Execution) -> None:
    """Refuse `execution.cuda_graphs=on` where meta-gradients cannot be replayed as CUDA graphs.

    Raises:
        DeviceError: the device is not a CUDA device; MamlError: the network has no explicit path.
    """
    if recipe.execution.cuda_graphs != "on" or how.graphs:
        return
    where, next_step = "execution.cuda_graphs", "Set execution.cuda_graphs=auto"
    if device.type != "cuda":
        expected = f"auto or off on {device.type}: CUDA graphs need a CUDA device"
        raise DeviceError(where, expected=expected, got="on", next_step=f"{next_step}, or use --device cuda")
    why = f"It is computed by execution.path={how.path}; the explicit path alone is recorded"
    raise MamlError(where, expected="auto or off for this network", got="on", why=why, next_step=next_step)


def graphs_of(
    recipe: Recipe, device: torch.device, how: Execution, on_note: Callable[[str], None] | None = None
) -> Graphs | None:
    """Return what replays the meta-gradients of a recipe, or None where they are computed each time.

    Args:
        recipe, device: whose meta-gradients, and where.
        how: how the tasks of a meta-batch are run.
        on_note: called with one line where it turns out that they cannot be replayed.
    """
    if not how.graphs:
        return None
    is_required = recipe.execution.cuda_graphs == "on"
    return Graphs(CudaRecorder(device), is_required=is_required, on_note=on_note)
