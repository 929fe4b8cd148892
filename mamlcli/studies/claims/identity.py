"""Claim C7 is checked where it is exact: a stack of three linear layers is linear KFO."""

from __future__ import annotations

import torch

from mamlcli.engine.inner_loop import InnerLoop, adapt
from mamlcli.engine.networks import apply_network, linear
from mamlcli.engine.objective import example_loss
from mamlcli.engine.transforms import KFO

# The exact identity holds to rounding in float64; a few steps of a few layers lose a few digits.
IDENTITY_TOLERANCE = 1e-12


def identity_error(*, seed: int = 0, num_steps: int = 3) -> float:
    """Return how far the exact identity of C7 is from holding in float64, relative to the movement.

    E = U W A, only W moves by gradient descent; E moves exactly as a one-layer model moves under linear KFO with
    L = U U^T and R = A^T A (positive semi-definite, factors U^T and A). Both sides run through the one inner loop.

    Source: Arnold et al. 2021, arXiv 1910.13603, the theory of section 3; the identity is exact at every step.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    num_inputs, width_below, width_above, num_outputs = 6, 5, 4, 3
    a, w, u = draw(width_below, num_inputs), draw(width_above, width_below), draw(num_outputs, width_above)
    x, y = draw(20, num_inputs), torch.arange(20) % num_outputs
    stack = linear((num_inputs,), num_outputs, depth=1, bias=False)
    start = u @ w @ a
    lr = 0.01

    def stack_loss(fast: dict[str, torch.Tensor]) -> torch.Tensor:
        return example_loss(x @ (u @ fast["w"] @ a).T, y)

    moved = adapt(stack_loss, {"w": w}, {}, InnerLoop(("w",), lr, num_steps)).fast_weights["w"]
    name = "head.0.weight"
    inner = InnerLoop((name,), lr, num_steps, transform=KFO(psd=True))
    xi = {f"{name}/left": u.T.contiguous(), f"{name}/right": a}
    one_layer = adapt(
        lambda fast: example_loss(apply_network(stack, fast, x), y), {name: start}, xi, inner
    ).fast_weights[name]
    return float((u @ moved @ a - one_layer).norm() / (one_layer - start).norm())
