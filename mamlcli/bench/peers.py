"""This module holds the peers of `mamlcli bench`: the same meta-gradient as users of other code would write it.

A plain hand-written loop, `higher` and TorchOpt are here, JAX has a file of its own. The networks are ordinary modules
or functional calls with torch's fused batch norm, and each runs one task after the other, as its documentation shows.
A peer is a function that takes a problem, builds what a program would build once, and returns a function without
arguments that computes one meta-gradient; only that one is timed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from mamlcli.bench.jax_peer import by_jax
from mamlcli.bench.peer_problem import (
    GradientsOfTasks,
    MetaGradientFunction,
    Params,
    PeerProblem,
    ScoresOfTasks,
    Task,
    as_leaves,
)

if TYPE_CHECKING:
    from torchopt.base import GradientTransformation

# KFO ----------------------------------------------------------------------------------------------------------


def kfo_updates(xi: Mapping[str, Tensor], names: Sequence[str], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return A^T A G B^T B for each gradient; xi holds A as `<name>/left` and B as `<name>/right`.

    Source: Arnold et al. 2021, section 4, the released linear form, written again here.
    """
    updates = []
    for name, gradient in zip(names, gradients, strict=True):
        left, right = xi[f"{name}/left"], xi[f"{name}/right"]
        matrix = gradient[:, None] if gradient.ndim == 1 else gradient.flatten(2) if gradient.ndim == 4 else gradient
        updates.append((left.T @ left @ matrix @ (right.T @ right)).reshape(gradient.shape))
    return updates


# A plain loop -------------------------------------------------------------------------------------------------


def plain_loop(problem: PeerProblem) -> MetaGradientFunction:
    """Return the meta-gradient by `torch.autograd.grad(create_graph=True)` and functional calls, by hand."""
    gradients, tasks = plain_gradients(problem, *problem.leaves()), problem.tasks()
    return lambda: dict(zip(problem.flat_names(), gradients(tasks), strict=True))


def plain_gradients(problem: PeerProblem, theta: Params, xi: Params) -> GradientsOfTasks:
    """Return the plain loop's meta-gradient as a function of the tasks, at leaves that may change between calls."""
    names, leaves = problem.adapted(), [*theta.values(), *xi.values()]

    def loss(params: Params, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(_functional_forward(params, x, problem.stride), y)

    def compute(tasks: Sequence[Task]) -> list[Tensor]:
        totals = [torch.zeros_like(leaf) for leaf in leaves]
        for support_x, support_y, query_x, query_y in tasks:
            if problem.head_only:
                support_x, query_x = _joint_features(theta, support_x, query_x, problem.stride)
            fast = {name: theta[name] for name in names}
            for _ in range(problem.num_steps):
                support_loss = loss(fast, support_x, support_y)
                updates = torch.autograd.grad(support_loss, list(fast.values()), create_graph=True)
                if xi:
                    updates = tuple(kfo_updates(xi, names, updates))
                fast = {name: fast[name] - problem.lr * update for name, update in zip(names, updates, strict=True)}
            outer_loss = loss(fast, query_x, query_y) / len(tasks)
            for total, gradient in zip(totals, torch.autograd.grad(outer_loss, leaves), strict=True):
                total += gradient
        return totals

    return compute


def plain_scores(problem: PeerProblem) -> ScoresOfTasks:
    """Return the scores at every inner step, by a plain loop that keeps no graph between steps."""

    def score(fast: Params, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        outputs = _functional_forward(fast, x, problem.stride)
        loss = functional.cross_entropy(outputs, y)
        return loss, [loss.detach(), (outputs.argmax(1) == y).to(loss.dtype).mean()]

    def of_task(task: Task) -> Tensor:
        support_x, support_y, query_x, query_y = task
        fast, rows = as_leaves(problem.theta), []
        for step in range(problem.num_steps + 1):
            with torch.no_grad():
                of_query = score(fast, query_x, query_y)[1]
            loss, of_support = score(fast, support_x, support_y)
            rows.append(torch.stack([*of_support, *of_query]))
            if step < problem.num_steps:
                gradients = torch.autograd.grad(loss, list(fast.values()))
                moved = zip(fast.items(), gradients, strict=True)
                fast = {name: (v.detach() - problem.lr * g).requires_grad_() for (name, v), g in moved}
        return torch.stack(rows)

    return lambda tasks: torch.stack([of_task(task) for task in tasks])


def _joint_features(params: Params, support_x: Tensor, query_x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    body = {name: value for name, value in params.items() if name.startswith("body.")}
    features = _functional_forward(body, torch.cat([support_x, query_x]), stride)
    return features[: len(support_x)], features[len(support_x) :]


def _functional_forward(params: Params, x: Tensor, stride: int) -> Tensor:
    block = 0
    while (name := f"body.{block}") and f"{name}.conv.weight" in params:
        x = functional.conv2d(x, params[f"{name}.conv.weight"], params[f"{name}.conv.bias"], stride=stride, padding=1)
        scale, shift = params[f"{name}.norm.weight"], params[f"{name}.norm.bias"]
        x = functional.relu(functional.batch_norm(x, None, None, scale, shift, training=True))
        block += 1
    if block:
        x = x.mean(dim=(2, 3))
    layer = 0
    while f"head.{layer}.weight" in params:
        x = functional.linear(x, params[f"head.{layer}.weight"], params[f"head.{layer}.bias"])
        layer += 1
    return x


# Libraries ----------------------------------------------------------------------------------------------------


class _GlobalMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def ordinary_module(problem: PeerProblem) -> nn.Sequential:
    """Return the network as a user of torch would write it, its parameters set to theta, in the same order."""
    layers: list[nn.Module] = []
    for name, value in problem.theta.items():
        if name.endswith("conv.weight"):
            width, channels = value.shape[:2]
            norm = nn.BatchNorm2d(width, track_running_stats=False)
            layers += [nn.Conv2d(channels, width, 3, stride=problem.stride, padding=1), norm, nn.ReLU()]
        elif name.startswith("head.") and name.endswith(".weight"):
            if name == "head.0.weight" and layers:
                layers.append(_GlobalMean())
            layers.append(nn.Linear(value.shape[1], value.shape[0]))
    first = next(iter(problem.theta.values()))
    module = nn.Sequential(*layers).to(dtype=first.dtype, device=first.device)
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), problem.theta.values(), strict=True):
            assert parameter.shape == value.shape, "the layers of a peer are ours, in the same order"
            parameter.copy_(value)
    return module


def _parts(
    network: nn.Sequential, problem: PeerProblem
) -> tuple[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], nn.Sequential]:
    """Return what is computed once of (support_x, query_x), and the part of the network that the inner loop moves."""
    if not problem.head_only:
        return lambda support_x, query_x: (support_x, query_x), network
    first = next(index for index, layer in enumerate(network) if isinstance(layer, _GlobalMean)) + 1
    body = network[:first]

    def features(support_x: Tensor, query_x: Tensor) -> tuple[Tensor, Tensor]:
        joint = body(torch.cat([support_x, query_x]))
        return joint[: len(support_x)], joint[len(support_x) :]

    return features, network[first:]


def by_higher(problem: PeerProblem) -> MetaGradientFunction:
    """Return the meta-gradient by `higher.innerloop_ctx` with SGD; KFO is its `grad_callback`.

    Source: Grefenstette et al. 2019, arXiv 1910.01727, and the MAML example of its repository.
    """
    import higher

    network, xi = ordinary_module(problem), as_leaves(problem.xi)
    features, moving = _parts(network, problem)
    optimizer = torch.optim.SGD(moving.parameters(), lr=problem.lr)
    tasks, names, leaves = problem.tasks(), problem.adapted(), [*network.parameters(), *xi.values()]

    def transformed(gradients: Sequence[Tensor]) -> list[Tensor]:
        return kfo_updates(xi, names, gradients)

    def compute() -> Params:
        _forget_gradients(leaves)
        for support_x, support_y, query_x, query_y in tasks:
            support_x, query_x = features(support_x, query_x)
            with higher.innerloop_ctx(moving, optimizer, copy_initial_weights=False) as (fast, inner):
                for _ in range(problem.num_steps):
                    support_loss = functional.cross_entropy(fast(support_x), support_y)
                    inner.step(support_loss, grad_callback=transformed if xi else None)
                torch.autograd.backward(functional.cross_entropy(fast(query_x), query_y) / len(tasks))
        return _gradients(problem, leaves)

    return compute


def by_torchopt(problem: PeerProblem) -> MetaGradientFunction:
    """Return the meta-gradient by TorchOpt's functional SGD and `torch.func.functional_call`.

    KFO is a gradient transformation chained before SGD. `torchopt.MetaSGD`, its interface for modules, computes the
    same in the same time.

    Source: Ren et al. 2023, TorchOpt, arXiv 2211.06934, and its documentation of differentiable optimizers.
    """
    import torchopt
    from torch.func import functional_call

    network, xi = ordinary_module(problem), as_leaves(problem.xi)
    features, moving = _parts(network, problem)
    theta, tasks = dict(moving.named_parameters()), problem.tasks()
    leaves = [*network.parameters(), *xi.values()]
    optimizer = torchopt.sgd(problem.lr)
    if xi:
        optimizer = torchopt.chain(_torchopt_kfo(xi, problem.adapted()), optimizer)

    def compute() -> Params:
        _forget_gradients(leaves)
        for support_x, support_y, query_x, query_y in tasks:
            support_x, query_x = features(support_x, query_x)
            fast: Params = dict(theta)
            state = optimizer.init(fast)
            for _ in range(problem.num_steps):
                support_loss = functional.cross_entropy(functional_call(moving, fast, (support_x,)), support_y)
                gradients = torch.autograd.grad(support_loss, list(fast.values()), create_graph=True)
                updates, state = optimizer.update(
                    dict(zip(fast, gradients, strict=True)), state, params=fast, inplace=False
                )
                fast = torchopt.apply_updates(fast, updates, inplace=False)
            outputs = functional_call(moving, fast, (query_x,))
            torch.autograd.backward(functional.cross_entropy(outputs, query_y) / len(tasks))
        return _gradients(problem, leaves)

    return compute


def _torchopt_kfo(xi: Params, names: Sequence[str]) -> GradientTransformation:
    """Return KFO as a gradient transformation of TorchOpt, whose updates come in the order of `names`."""
    from torchopt.base import EmptyState, GradientTransformation

    def update(updates: Params, state: object, *, params: object = None, inplace: bool = True) -> tuple[Params, object]:
        transformed = kfo_updates(xi, names, list(updates.values()))
        return dict(zip(updates, transformed, strict=True)), state

    return GradientTransformation(lambda params: EmptyState(), update)


def _forget_gradients(leaves: Sequence[Tensor]) -> None:
    for leaf in leaves:
        leaf.grad = None


def _gradients(problem: PeerProblem, leaves: Sequence[Tensor]) -> Params:
    gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return dict(zip(problem.flat_names(), gradients, strict=True))


# All of them --------------------------------------------------------------------------------------------------

PLAIN_LOOP, JAX = "plain loop", "jax"

PEERS: dict[str, Callable[[PeerProblem], MetaGradientFunction]] = {
    PLAIN_LOOP: plain_loop,
    "higher": by_higher,
    "TorchOpt": by_torchopt,
    JAX: by_jax,
}

# The package of each peer that is a library, and the extra that brings it.
PACKAGES = {"higher": ("higher", "bench"), "TorchOpt": ("torchopt", "bench"), JAX: ("jax", "bench-jax")}


def absent_peers() -> dict[str, str]:
    """Return the peers that cannot be used here, each with the reason in one line."""
    absent = {}
    for name, (package, extra) in PACKAGES.items():
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            missing = "" if error.name == package else f" ({error.name} is missing)"
            absent[name] = f"{name} is not installed{missing}: pip install 'mamlcli[{extra}]'"
        except Exception as error:  # whatever an old package does with a new torch, the others can be measured
            absent[name] = f"{name} cannot be imported: {type(error).__name__}: {error}".splitlines()[0]
    return absent
