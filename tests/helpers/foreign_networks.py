"""Networks of other people: small ones of five kinds, for tests."""

from __future__ import annotations

import itertools

import torch
import torchvision
from torch import Tensor, nn


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        sizes = [inputs, outputs, outputs]
        self.convs = nn.ModuleList(nn.Conv2d(a, outputs, 3, padding=1, bias=False) for a in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs, track_running_stats=False) for _ in sizes)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            out = norm(conv(out))
            out = nn.functional.leaky_relu(out, 0.1) if index < 2 else out
        return nn.functional.max_pool2d(nn.functional.leaky_relu(out + self.shortcut(x), 0.1), 2)


class ResNet12(nn.Module):
    """Four blocks of three convolutions, with batch norm and shortcuts."""

    def __init__(self, ways: int) -> None:
        super().__init__()
        widths = [3, 2, 3, 4, 5]
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in itertools.pairwise(widths)))
        self.classifier = nn.Linear(5, ways)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(x).mean(dim=(2, 3)))


class Transformer(nn.Module):
    """Rows of an image as tokens, with a learned position and one encoder layer."""

    def __init__(self, ways: int) -> None:
        super().__init__()
        self.position = nn.Parameter(0.1 * torch.randn(16, 8))
        self.embed = nn.Linear(48, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, activation="gelu")
        self.head = nn.Linear(8, ways)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.transpose(1, 2).flatten(2)) + self.position
        return self.head(self.encoder(tokens).mean(dim=1))


class Recurrent(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self, ways: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(48, 6, batch_first=True)
        self.out = nn.Linear(6, ways)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x.transpose(1, 2).flatten(2))[0][:, -1])


def mlp(ways: int) -> nn.Module:
    """Return an MLP with layer norm."""
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, ways))


def squeezenet(ways: int) -> nn.Module:
    """Return the smallest network of torchvision, its dropout switched off; its last layer is a convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2), torchvision.models.squeezenet1_1(num_classes=ways, dropout=0.0))


class Points(nn.Sequential):
    """A small network of points with six numbers, for three classes."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
