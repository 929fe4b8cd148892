"""The code; it is imported when a run needs it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mamlcli_example import keys as of


class Gate(nn.Module):
    """Half of a linear layer's outputs, each times the sigmoid of one of the other half."""

    def __init__(self, num_inputs: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_inputs, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.glu(self.linear(x))


def gated(keys: of.Gated, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """Return the network: [n, *input_shape] -> [n, num_outputs]."""
    sizes = [torch.Size(input_shape).numel(), *[keys.width] * keys.depth]
    gates = [Gate(before, after) for before, after in itertools.pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *gates, nn.Linear(keys.width, num_outputs))


class Steps:
    """Draws tasks, each by a random generator of its own."""

    def __init__(self, keys: of.Steps) -> None:
        self.keys = keys

    def sample(self, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return support_x, support_y, query_x, query_y, each [num_tasks, num_examples, 1]."""
        shots, queries = self.keys.shots, self.keys.queries
        drawn = torch.stack([torch.rand(1 + shots + queries, 1, generator=one) for one in generators]) * 2 - 1
        place, x = drawn[:, :1], drawn[:, 1:]
        y = self.keys.height * (x > place).to(x.dtype)
        return x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:]


class Scale:
    """The meta-parameters xi are the factors."""

    def __init__(self, keys: of.Scale) -> None:
        self.keys = keys

    def init(self, params: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Return xi for the parameters that adapt."""
        return {f"{name}/scale": torch.full((), self.keys.start) for name in params}

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> dict[str, Tensor]:
        """Return what is subtracted from the parameters, times the inner rate."""
        return {name: xi[f"{name}/scale"] * gradient for name, gradient in gradients.items()}
