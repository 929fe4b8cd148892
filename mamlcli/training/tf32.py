"""Sets whether this process rounds the factors of float32 products to TF32 on CUDA, and sets it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_products, _convolutions = torch.backends.cuda.matmul, torch.backends.cudnn


def use_tf32(is_used: bool) -> None:
    """Let matrix products and convolutions in float32 on CUDA round their factors to TF32, or compute them exactly.

    Torch's own start is TF32 for convolutions alone, so that paths of execution would differ by more than rounding.
    """
    _products.allow_tf32, _convolutions.allow_tf32 = is_used, is_used


@contextmanager
def tf32_kept() -> Iterator[None]:
    """Leave torch's settings of TF32 as they were before the block; nothing of CUDA is called for it."""
    before = _settings()
    try:
        yield
    finally:
        if _settings() != before:
            for (place, name), value in before.items():
                setattr(place, name, value)


def _settings() -> dict[tuple[object, str], object]:
    """Return the settings by where they are: under torch's first names, or its newer ones where a caller mixed both."""
    try:
        return {(place, "allow_tf32"): place.allow_tf32 for place in (_products, _convolutions)}
    except RuntimeError:  # torch has no answer under its first names then
        newer = (_products, _convolutions.conv, _convolutions.rnn)  # type: ignore[attr-defined]
        return {(place, "fp32_precision"): place.fp32_precision for place in newer}
