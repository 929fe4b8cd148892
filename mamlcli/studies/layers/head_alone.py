"""The bottom layers' update in the full network is compared with the one they would get through a head alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad
from torch.nn import functional

from mamlcli.engine.evaluation import Array, map_tasks
from mamlcli.engine.execution import Execution
from mamlcli.engine.networks import GlobalMean, Network, Params, apply_network
from mamlcli.engine.objective import MetaObjective, MetaParams, example_loss
from mamlcli.studies.layers.movement import layer_names, least_squares
from mamlcli.tasks.episodes import Episode


@dataclass(frozen=True)
class BottomUpdate:
    """A bottom update compares the update of the bottom layers in the full network with that through a head alone.

    Attributes:
        layers: the bottom layers.
        num_features: inputs of the head alone.
        rank: of the features (with a constant 1 for the bias, where there is one) on the points of the fit; below
            full rank the head alone is the fit of least norm.
        num_points: query points it was fitted to.
        explained: share of the variance of the full network's outputs that it explains on those points.
        angle_rad: [num_tasks], between the two updates; NaN where one of them is zero.
        length_ratio: [num_tasks], |update in the full network| / |update through the head alone|.
    """

    layers: tuple[str, ...]
    num_features: int
    rank: int
    num_points: int
    explained: float
    angle_rad: Array
    length_ratio: Array


def bottom_updates(
    objective: MetaObjective,
    meta: MetaParams,
    episodes: Iterable[Episode],
    fit_episodes: Iterable[Episode],
    execution: Execution,
) -> list[BottomUpdate]:
    """Compare the bottom layers' first update with the one they would get without the layers above.

    For each cut b = 1 ... L - 1, with h the features after the bottom b layers and f the full network at theta:
    (A, c) = argmin sum |A h(x) + c - f(x)|^2 over the query points of `fit_episodes`, the head alone;
    g_full = d/d theta_{1..b} L_S(f),  g_head = d/d theta_{1..b} L_S(A h + c),  at theta on a task's support set;
    reported are the angle between g_full and g_head, and |g_full| / |g_head|.
    The first inner step moves the bottom by -alpha g, so angle and ratio are those of the updates; gradient
    transforms are left out, the question being what the upper layers do. If the upper layers only passed the
    gradient on, the angle would be 0 and the ratio 1, as it must be where the upper part is one linear layer (and
    the features have full rank): the last cut checks the computation.

    A conv block's maps pass through the network's own read-out (global mean or flatten) before the head alone, so
    that bottom and head are the network of depth b. c is left out where the network has no biases; where the fit is
    not unique, that of least norm is taken. All is computed in float64, whatever the run's precision: features are
    often nearly dependent, and rounding noise in them would be fitted.

    Args:
        objective: network and inner loop.
        meta: theta; xi is not used.
        episodes: tasks whose support sets are differentiated, meta-test tasks as a rule.
        fit_episodes: tasks whose query sets the head alone is fitted to: meta-train tasks.
        execution: how tasks are run.

    Source: our construction for the claim of Arnold et al. 2021, arXiv 1910.13603, that the upper layers
        transform the gradients of the bottom ones as a meta-optimizer of a smaller network would.
    """
    network = objective.network
    meta = MetaParams({name: value.double() for name, value in meta.model.items()}, {})
    num_layers = len(layer_names(network))
    return [_bottom_update(network, meta, num, episodes, fit_episodes, execution) for num in range(1, num_layers)]


def bottom_network(network: Network, num_layers: int) -> Network:
    """Return the bottom `num_layers` layers with read-out; its outputs are the features [n, num_features]."""
    body, head = list(network.body), list(network.head)
    starts = [index for index, module in enumerate(body) if next(module.parameters(), None) is not None]
    if num_layers >= len(starts):
        below = head[: num_layers - len(starts)]
        return Network(network.body, nn.Sequential(*below), network.input_shape)
    # What stands before the next layer with parameters (a non-linearity) belongs to the one below.
    modules = body[: starts[num_layers]]
    if isinstance(body[-1], GlobalMean | nn.Flatten):
        modules.append(body[-1])
    return Network(nn.Sequential(*modules), nn.Sequential(), network.input_shape)


def _bottom_update(
    network: Network,
    meta: MetaParams,
    num_layers: int,
    episodes: Iterable[Episode],
    fit_episodes: Iterable[Episode],
    execution: Execution,
) -> BottomUpdate:
    bottom = bottom_network(network, num_layers)
    names = bottom.parameter_names()
    weight, bias, rank, explained, num_points = _least_squares_head(network, bottom, meta, fit_episodes, execution)

    def comparison(model: Params, xi: Params, *data: Tensor) -> Tensor:
        x, y = data[0].double(), data[1].double() if data[1].is_floating_point() else data[1]

        def full_loss(lower: Params) -> Tensor:
            return example_loss(apply_network(network, {**model, **lower}, x), y)

        def head_loss(lower: Params) -> Tensor:
            return example_loss(functional.linear(apply_network(bottom, lower, x), weight, bias), y)

        lower = {name: model[name] for name in names}
        full, alone = (_flat(grad(loss)(lower)) for loss in (full_loss, head_loss))
        return torch.stack([angle_between(full, alone), full.norm() / alone.norm()])

    compared = map_tasks(comparison, meta, episodes, execution)
    layers = layer_names(network)[:num_layers]
    return BottomUpdate(layers, int(weight.shape[1]), rank, num_points, explained, compared[:, 0], compared[:, 1])


def _flat(tensors: Params) -> Tensor:
    return torch.cat([value.flatten() for value in tensors.values()])


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle between two vectors in radians; NaN if one is zero.

    2 atan2(|u - v|, |u + v|) with u = a / |a|, v = b / |b|: exact near 0, where arccos(u.v) loses half the digits.

    Source: Kahan 2006, How Futile are Mindless Assessments of Roundoff in Floating-Point Computation? ("Mangled
        Angles"). No known deviation.
    """
    u, v = a / a.norm(), b / b.norm()
    return 2 * torch.atan2((u - v).norm(), (u + v).norm())


def _least_squares_head(
    network: Network, bottom: Network, meta: MetaParams, episodes: Iterable[Episode], execution: Execution
) -> tuple[Tensor, Tensor | None, int, float, int]:
    """Return the head alone: weight, bias (None where the network has none), rank, variance explained, points."""
    names = bottom.parameter_names()

    def pairs(model: Params, xi: Params, *data: Tensor) -> Tensor:
        x, lower = data[2].double(), {name: model[name] for name in names}
        return torch.cat([apply_network(bottom, lower, x), apply_network(network, model, x)], dim=-1)

    like = next(iter(meta.model.values()))
    top = network.head[-1]
    assert isinstance(top, nn.Linear), "a head is linear layers only"
    # A tensor of its own memory: the last bits of products depend on how memory is aligned, and arrays vary in that.
    points = torch.from_numpy(map_tasks(pairs, meta, episodes, execution)).clone().flatten(0, 1)
    features, outputs = points[:, : -top.out_features], points[:, -top.out_features :]
    has_bias = top.bias is not None
    inputs = torch.cat([features, features.new_ones(len(features), 1)], dim=1) if has_bias else features
    solution, rank = least_squares(inputs, outputs, like.dtype)
    spread = outputs - outputs.mean(dim=0) if has_bias else outputs
    explained = 1.0 - float((inputs @ solution - outputs).square().sum() / spread.square().sum())
    weight = solution[: features.shape[1]].T.to(like)
    return weight, solution[-1].to(like) if has_bias else None, rank, explained, len(points)
