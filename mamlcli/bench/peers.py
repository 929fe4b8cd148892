"""This module holds the peers of `mamlcli bench`: the same meta-gradient as users of other code would write it.

Three of them: a plain hand-written loop, `higher` and TorchOpt. Their networks are ordinary modules or functional
calls with torch's fused batch norm, and each runs one task after the other, as its documentation shows. A peer is a
function that takes a problem, builds what a program would build once, and returns a function without arguments that
computes one meta-gradient; only that one is timed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from mamlcli.tasks.episodes import Episode

if TYPE_CHECKING:
    from torchopt.base import GradientTransformation

Params = dict[str, Tensor]

MetaGradientFunction = Callable[[], Params]


@dataclass(frozen=True)
class PeerProblem:
    """Holds the tensors and settings that a peer is given: those that mamlcli gets.

    Attributes:
        theta: parameters of the network by our names, in the order of the layers.
        xi: Kronecker factors of linear Meta-KFO by our names; empty in MAML.
        episode: the tasks, with class indices as labels.
        lr: inner learning rate, alpha.
        num_steps: inner steps, K.
        stride: of every convolution.
    """

    theta: Params
    xi: Params
    episode: Episode
    lr: float
    num_steps: int
    stride: int = 1

    def tasks(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Return (support_x, support_y, query_x, query_y) of each task, a list that is made once."""
        data = self.episode.data()
        return [(data[0][i], data[1][i], data[2][i], data[3][i]) for i in range(self.episode.num_tasks)]

    def leaves(self) -> tuple[Params, Params]:
        """Return theta and xi as leaves that require grad."""
        return _leaves(self.theta), _leaves(self.xi)


def _leaves(tensors: Params) -> Params:
    return {name: value.detach().clone().requires_grad_() for name, value in tensors.items()}


def flat_names(problem: PeerProblem) -> list[str]:
    """Return the names of the meta-gradient's tensors, as in `MetaParams.flat`."""
    return [*(f"model/{name}" for name in problem.theta), *(f"transform/{name}" for name in problem.xi)]


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
    theta, xi = problem.leaves()
    tasks, names, leaves = problem.tasks(), list(theta), [*theta.values(), *xi.values()]

    def loss(params: Params, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(_functional_forward(params, x, problem.stride), y)

    def compute() -> Params:
        totals = [torch.zeros_like(leaf) for leaf in leaves]
        for support_x, support_y, query_x, query_y in tasks:
            fast = theta
            for _ in range(problem.num_steps):
                support_loss = loss(fast, support_x, support_y)
                updates = torch.autograd.grad(support_loss, list(fast.values()), create_graph=True)
                if xi:
                    updates = tuple(kfo_updates(xi, names, updates))
                fast = {name: fast[name] - problem.lr * update for name, update in zip(names, updates, strict=True)}
            outer_loss = loss(fast, query_x, query_y) / len(tasks)
            for total, gradient in zip(totals, torch.autograd.grad(outer_loss, leaves), strict=True):
                total += gradient
        return dict(zip(flat_names(problem), totals, strict=True))

    return compute


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


def by_higher(problem: PeerProblem) -> MetaGradientFunction:
    """Return the meta-gradient by `higher.innerloop_ctx` with SGD; KFO is its `grad_callback`.

    Source: Grefenstette et al. 2019, arXiv 1910.01727, and the MAML example of its repository.
    """
    import higher

    network, xi = ordinary_module(problem), _leaves(problem.xi)
    optimizer = torch.optim.SGD(network.parameters(), lr=problem.lr)
    tasks, names, leaves = problem.tasks(), list(problem.theta), [*network.parameters(), *xi.values()]

    def transformed(gradients: Sequence[Tensor]) -> list[Tensor]:
        return kfo_updates(xi, names, gradients)

    def compute() -> Params:
        _forget_gradients(leaves)
        for support_x, support_y, query_x, query_y in tasks:
            with higher.innerloop_ctx(network, optimizer, copy_initial_weights=False) as (fast, inner):
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

    network, xi = ordinary_module(problem), _leaves(problem.xi)
    theta, tasks = dict(network.named_parameters()), problem.tasks()
    leaves = [*theta.values(), *xi.values()]
    optimizer = torchopt.sgd(problem.lr)
    if xi:
        optimizer = torchopt.chain(_torchopt_kfo(xi, list(problem.theta)), optimizer)

    def compute() -> Params:
        _forget_gradients(leaves)
        for support_x, support_y, query_x, query_y in tasks:
            fast: Params = dict(theta)
            state = optimizer.init(fast)
            for _ in range(problem.num_steps):
                support_loss = functional.cross_entropy(functional_call(network, fast, (support_x,)), support_y)
                gradients = torch.autograd.grad(support_loss, list(fast.values()), create_graph=True)
                updates, state = optimizer.update(
                    dict(zip(fast, gradients, strict=True)), state, params=fast, inplace=False
                )
                fast = torchopt.apply_updates(fast, updates, inplace=False)
            outputs = functional_call(network, fast, (query_x,))
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
    return dict(zip(flat_names(problem), gradients, strict=True))


# All of them --------------------------------------------------------------------------------------------------

PLAIN_LOOP = "plain loop"

PEERS: dict[str, Callable[[PeerProblem], MetaGradientFunction]] = {
    PLAIN_LOOP: plain_loop,
    "higher": by_higher,
    "TorchOpt": by_torchopt,
}

# The package of each peer that is a library.
_PACKAGES = {"higher": "higher", "TorchOpt": "torchopt"}


def absent_peers() -> dict[str, str]:
    """Return the peers that cannot be used here, each with the reason in one line."""
    absent = {}
    for name, package in _PACKAGES.items():
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            missing = "" if error.name == package else f" ({error.name} is missing)"
            absent[name] = f"{name} is not installed{missing}: pip install 'mamlcli[bench]'"
        except Exception as error:  # whatever an old package does with a new torch, the others can be measured
            absent[name] = f"{name} cannot be imported: {type(error).__name__}: {error}".splitlines()[0]
    return absent
