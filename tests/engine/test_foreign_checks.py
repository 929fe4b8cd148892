"""Modules that cannot be meta-learned are refused with the layer and how to mend it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mamlcli.common.errors import MamlError
from mamlcli.engine.foreign import foreign_network

CPU = torch.device("cpu")


class TwoArguments(nn.Linear):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x * mask)


class Idle(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 3)
        self.unused = nn.Linear(4, 4)


class Counting(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Pair(nn.Linear):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return x, x


class Noisy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5)


def frozen() -> nn.Module:
    return nn.Linear(4, 3).requires_grad_(False)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (TwoArguments(4, 3), r"one argument, forward\(x\), got TwoArguments.forward\(x: .*mask"),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), r"got 1, BatchNorm1d\(track_running_stats=True\)"),
        (
            nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
            r"track_running_stats=False\) or GroupNorm, or pass mamlcli",
        ),
        (nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)).eval(), r"got 0, BatchNorm1d"),
        (nn.Sequential(nn.Dropout(0.3), nn.Linear(4, 3)), r"got 0, Dropout\(p=0.3\).*network.eval\(\)"),
        (Noisy(4, 3), r"same outputs for the same inputs, got other ones"),
        (Idle(), r"all take part in the outputs, got unused.weight, unused.bias.*requires_grad_\(False\)"),
        (nn.Linear(4, 7), r"outputs \[4, 3\] for 4 inputs, got \[4, 7\].*Give the last layer 3 outputs"),
        (nn.Linear(5, 3), r"called with one tensor \[4, 4\], float, got RuntimeError"),
        (Counting(), r"leaves buffers as they are, got one that changes calls"),
        (Pair(4, 3), r"got a tuple"),
        (frozen(), r"require a gradient.*got none"),
        (nn.LazyLinear(3), r"got weight, which has no shape yet"),
        ("resnet18", r"a torch.nn.Module, or a function.*got 'resnet18'"),
    ],
)
def test_module_that_cannot_be_meta_learned_is_refused(module: object, words: str) -> None:
    with pytest.raises(MamlError, match=words):
        foreign_network(module, (4,), 3, dtype=torch.float32, device=CPU)


def test_dropout_that_is_switched_off_is_taken() -> None:
    modules = [nn.Sequential(nn.Dropout(0.3), nn.Linear(4, 3)).eval(), nn.Sequential(nn.Dropout(0), nn.Linear(4, 3))]
    for module in modules:
        assert foreign_network(module, (4,), 3, dtype=torch.float32, device=CPU).unmapped is None
