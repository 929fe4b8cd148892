"""Refuses, before anything is taken, a recipe that needs more memory than the machine has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mamlcli.common.bounded import memory_bytes
from mamlcli.common.errors import MamlError
from mamlcli.engine.networks import Network
from mamlcli.engine.sizes import activation_size
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ClassKeys

# Weights, their gradient, and the fast weights of one task; an optimizer keeps more.
_COPIES = 3

# The state of the random generator that each task of a meta-batch is drawn by.
_GENERATOR_BYTES = 5_000


def check_fits(
    recipe: Recipe,
    network: Network,
    adapted: Sequence[str],
    num_transform: int,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Raise MamlError where the least that training could take is more than the memory there is.

    Args:
        recipe: resolved.
        network: may be one without memory, on the device "meta".
        adapted: names of the parameters that adapt.
        num_transform: numbers in xi.
        device, dtype: where and in what precision.
    """
    parts = least_bytes(recipe, network, adapted, num_transform, dtype=dtype)
    needed, here = sum(parts.values()), _memory_of(device)
    if here is not None and needed > here:
        raise MamlError(
            "memory",
            expected=f"at least {needed / 1e9:,.1f} GB for this recipe",
            got=f"{here / 1e9:,.1f} GB on {device.type}",
            why=f"Most of it would be for {max(parts, key=lambda part: parts[part])}",
            next_step="Lower these keys",
        )


def least_bytes(
    recipe: Recipe, network: Network, adapted: Sequence[str], num_transform: int, *, dtype: torch.dtype
) -> dict[str, int]:
    """Return what training takes at the very least, in bytes, by what it is for, with the keys that set it."""
    tasks, inner = recipe.tasks, recipe.inner
    per_number = tasks.ways if isinstance(tasks, ClassKeys) else 1
    num_support, num_query = tasks.shots * per_number, tasks.queries * per_number
    of_one_input = math.prod(network.input_shape)
    is_kept = inner.memory == "unrolled" and not inner.first_order
    num_kept = inner.steps if is_kept else 1
    num_adapted = sum(value.numel() for name, value in network.named_parameters() if name in adapted)
    num_weights = sum(parameter.numel() for parameter in network.parameters()) + num_transform
    of_tasks = recipe.outer.tasks * (num_support + num_query) * of_one_input
    of_steps = num_kept * (activation_size(network) * num_support + num_adapted)
    size = dtype.itemsize
    of_graph = "the inner steps of one task (inner.steps, tasks.shots, model.width; inner.memory=constant takes less)"
    return {
        "the weights (model.width, model.depth, inner.transform)": _COPIES * num_weights * size,
        "the tasks of a meta-batch (outer.tasks, tasks.shots, tasks.queries)": of_tasks * size
        + recipe.outer.tasks * _GENERATOR_BYTES,
        of_graph: of_steps * size,
    }


def _memory_of(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return memory_bytes()
