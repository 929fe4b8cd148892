"""The output layer, the last linear layer of the head, starts as learned, at zero, or with one row for all classes.

What the outer loop learns ("stored theta") then has another form than the network's parameters: nothing for an output
layer that starts at zero, one row for one that is shared. `start_params` makes the network's parameters of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mamlcli.engine.networks import Network, Params


def output_layer_names(network: Network) -> tuple[str, ...]:
    """Return the names of the output layer's parameters: its weight and, where it has one, its bias."""
    return network.names_by_part().output


def start_params(network: Network, head: str, theta: Mapping[str, Tensor]) -> Params:
    """Return phi_0, the network's parameters at the start of every task, from what the outer loop learns.

    With W [num_outputs, num_features] and b [num_outputs] the parameters of the output layer:
    zero: W = 0, b = 0.  shared: every row of W is w [1, num_features], every entry of b is c [1]. Softmax does not see
    what is added to all logits, so scores and updates are those of zero whatever w and c are, and their gradient is
    exactly 0: it is not computed, as Adam would scale its rounding errors up.  learned: W and b are learned; of more
    rows than the network has outputs, the first ones are taken, so that a task of fewer classes uses the first outputs.
    The result is differentiable with respect to `theta`, exactly and to any order.

    Args:
        network: the architecture.
        head: "learned", "zero" or "shared".
        theta: stored theta by name; all tensors may share a leading dimension, of runs trained together.

    Returns:
        Every parameter by name, in the shapes of the network, with the leading dimension of `theta`.

    Source: Kao, Chiu, Chen 2022, MAML is a Noisy Contrastive Learner in Classification, arXiv 2106.15367 (zeroing
        trick), for zero; Ye and Chao 2022, How to Train Your MAML to Excel in Few-Shot Classification, arXiv
        2106.16245 (UNICORN-MAML), for shared.
    Differs from the source: for zero, Kao et al. set a learned output layer back to zero at every outer update; here
        it is no meta-parameter, and at zero at the start of every task, also when the result is scored. For shared,
        the bias is shared, too, and w stays as it was drawn (the first row of the first weights).
    """
    params = dict(theta)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    for name in output_layer_names(network):
        shape = shapes[name]
        if head == "zero":
            other, value = next(iter(theta.items()))
            leading = value.shape[: value.ndim - len(shapes[other])]
            params[name] = value.new_zeros(*leading, *shape)
            continue
        value = theta[name]
        rows = value.ndim - len(shape)
        if head == "shared":
            params[name] = value.detach().expand(*value.shape[:rows], *shape)
        elif value.shape[rows] > shape[0]:
            params[name] = value.narrow(rows, 0, shape[0])
    return params


def stored_params(network: Network, head: str, params: Mapping[str, Tensor]) -> Params:
    """Return what the outer loop learns of a network's parameters: all, or with a smaller output layer, or without it.

    Args:
        network: the architecture.
        head: "learned", "zero" or "shared"; of shared, the first row of the output layer is kept.
        params: every parameter by name, without leading dimensions.
    """
    if head == "learned":
        return dict(params)
    names = output_layer_names(network)
    kept = {name: value for name, value in params.items() if name not in names}
    if head == "zero":
        return kept
    return {name: value[:1].clone() if name in names else value for name, value in params.items()}
