"""Augment the colour images of training tasks: cropped, recoloured and mirrored, each by a draw of its own.

All images of a batch of tasks are computed at once. The bits of an image depend on its pixels and its draw alone: what
is random is drawn in float64 on the CPU, every product and sum is an operation of its own (a fused one may round the
end of a vector otherwise than its middle), and the one mean over pixels is of whole numbers, exact in any order.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional

# Uniform numbers of an image: mirrored or not; row and column of the crop; three strengths, and their order. All are
# drawn whatever is wanted, so that one augmentation does not change what another draws.
NUM_DRAWS = 7

# Strengths of brightness, contrast and saturation are U(1 - 0.4, 1 + 0.4).
_JITTER = 0.4

# Rec. 601: how much red, green and blue contribute to grey.
_GREY = (0.299, 0.587, 0.114)

# The six orders of brightness (0), contrast (1) and saturation (2).
_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def padding_of(side: int) -> int:
    """Return by how many pixels `crop` pads an image on each side: an eighth of its side, at most 8."""
    return min(side // 8, 8)


def draw_augmentations(num_images: int, generator: torch.Generator) -> Tensor:
    """Return what is random in the augmentation of each image, [num_images, 7] float64 from U(0, 1)."""
    return torch.rand(num_images, NUM_DRAWS, dtype=torch.float64, generator=generator)


def augmented(images: Tensor, draws: Tensor, names: Collection[str], dtype: torch.dtype) -> Tensor:
    """Return images cropped, recoloured and mirrored, as far as wanted, with values in [0, 1].

    - `crop`: the image gets a black margin of `padding_of(side)` pixels on each side (4 at 32x32, 8 at 84x84), and a
      piece of its own size is cut out; every place is as likely as any other.
    - `colour`: brightness x <- s x, contrast x <- s x + (1 - s) m and saturation x <- s x + (1 - s) g, each with a
      strength s ~ U(0.6, 1.4) of its own, in random order, cut to [0, 1] after each. g is the grey of a pixel,
      0.299 red + 0.587 green + 0.114 blue, and m the mean over the image of g in whole levels of 256.
    - `flip`: with probability 1/2, left and right are exchanged.

    Args:
        images: [..., 3, height, width] uint8.
        draws: [..., 7] float64 in [0, 1) on the same device, as `draw_augmentations` gives them.
        names: of "flip", "crop" and "colour".
        dtype: of the result.

    Returns:
        [..., 3, height, width].

    Source: Lee et al. 2019, arXiv 1904.03758 (MetaOptNet), section 4.1, and its code: crop with a padding of 4 pixels
        for CIFAR-FS and 8 for mini-ImageNet, jitter of 0.4, flip, in this order.
    Differs from the source: colours are real numbers between the steps, where PIL rounds to 256 levels.
    """
    x, numbers = images.flatten(0, -4), draws.flatten(0, -2)
    if "crop" in names or "flip" in names:
        x = _moved(x, numbers, is_cropped="crop" in names, is_flipped="flip" in names)
    x = x.to(dtype) / 255
    if "colour" in names:
        x = _recoloured(x, numbers[:, 3:])
    return x.view(images.shape)


def _moved(x: Tensor, numbers: Tensor, *, is_cropped: bool, is_flipped: bool) -> Tensor:
    """Cut out of each padded image a piece of its own size, and mirror some, as one gather.

    Mirroring changes no colour and no mean, so it may come before `colour` as well as after it.

    Args:
        x: [num_images, 3, height, width].
        numbers: [num_images, 7].
    """
    height, width = x.shape[-2:]
    rows, columns = (torch.arange(side, device=x.device).expand(len(x), side) for side in (height, width))
    if is_flipped:
        columns = torch.where(numbers[:, :1] < 0.5, columns.flip(1), columns)
    if is_cropped:
        pad_y, pad_x = padding_of(height), padding_of(width)
        x = functional.pad(x, (pad_x, pad_x, pad_y, pad_y))
        rows = rows + (numbers[:, 1:2] * (2 * pad_y + 1)).long()
        columns = columns + (numbers[:, 2:3] * (2 * pad_x + 1)).long()
    places = (rows * x.shape[-1])[:, :, None] + columns[:, None, :]
    pixels = torch.take_along_dim(x.flatten(2), places.flatten(1).unsqueeze(1), dim=2)
    return pixels.view(*x.shape[:2], height, width)


def _recoloured(x: Tensor, numbers: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of each image, in its own order; overwrites x.

    Args:
        x: [num_images, 3, height, width] in [0, 1].
        numbers: [num_images, 4]: three strengths and the order.
    """
    strengths = ((1 - _JITTER) + 2 * _JITTER * numbers[:, :3]).to(x.dtype)
    orders = torch.tensor(_ORDERS, device=x.device)[(numbers[:, 3] * len(_ORDERS)).long()]
    for step in orders.unbind(1):
        strength = strengths.gather(1, step[:, None])[:, :, None, None]
        grey = _grey(x)
        is_contrast, is_saturation = ((step == kind)[:, None, None, None] for kind in (1, 2))
        # What x is mixed with: black, the mean grey of the image, or the grey of each pixel.
        target = torch.where(is_saturation, grey, _mean_level(grey) * is_contrast)
        x.mul_(strength).add_(target.mul_(1 - strength)).clamp_(0, 1)
    return x


def _grey(x: Tensor) -> Tensor:
    """Return the grey of each pixel, [num_images, 1, height, width]."""
    red, green, blue = (weight * x[:, index : index + 1] for index, weight in enumerate(_GREY))
    return red.add_(green).add_(blue)


def _mean_level(grey: Tensor) -> Tensor:
    """Return the mean over each image of grey in whole levels of 256, as a part of 1: [num_images, 1, 1, 1]."""
    num_pixels = grey.shape[-2] * grey.shape[-1]
    total = (grey * 255).round_().sum((-2, -1), keepdim=True, dtype=torch.float64)
    return (total / (255 * num_pixels)).to(grey.dtype)
