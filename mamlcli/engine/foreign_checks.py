"""Refuses modules that cannot be meta-learned: random ones, ones that keep statistics, ones of other shapes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mamlcli.common.errors import MamlError
from mamlcli.common.words import first_line

_MOST_SHOWN = 4


def check_module(module: object, where: str) -> nn.Module:
    """Return an object that is a module, has meta-parameters, keeps no statistics and is not random.

    Raises:
        MamlError: it is none of that; the message names the layer and how to mend it.
    """
    if not isinstance(module, nn.Module):
        expected = "a torch.nn.Module, or a function without arguments that makes one"
        raise MamlError(where, expected=expected, got=repr(module)[:100])
    for name, parameter in module.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            got, next_step = f"{name}, which has no shape yet", "Call the module once with an input before it is given"
            raise MamlError(where, expected="parameters that have a shape", got=got, next_step=next_step)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        expected = "parameters that require a gradient, which are what is meta-learned"
        raise MamlError(where, expected=expected, got="none")
    for name, layer in module.named_modules():
        _check_layer(name or type(layer).__name__, layer, where)
    return module


def _check_layer(name: str, layer: nn.Module, where: str) -> None:
    kind = type(layer).__name__
    if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.track_running_stats:
        raise MamlError(
            where,
            expected="norms that keep no running statistics",
            got=f"{name}, {kind}(track_running_stats=True)",
            why="Running statistics of one task would reach the others, and no gradient goes through them",
            next_step=f"Make it {kind}(..., track_running_stats=False) or GroupNorm, or pass "
            "mamlcli.with_batch_statistics(network), which does the first for all of its layers",
        )
    if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0 and layer.training:
        raise MamlError(
            where,
            expected="a network that gives the same outputs for the same inputs",
            got=f"{name}, {kind}(p={layer.p:g})",
            why="Inner steps and the derivative through them need one function",
            next_step="Set p=0, or switch it off with network.eval()",
        )


def check_forward(module: nn.Module, x: Tensor, num_outputs: int, where: str) -> str | None:
    """Call a module twice; return the name of the linear layer that computes its outputs, None where none does.

    Args:
        module: on the device and in the precision of `x`.
        x: [n, *input_shape].
        num_outputs: what the tasks need.
        where: the first word of messages.

    Raises:
        MamlError: it cannot be called with one tensor, its outputs are of another shape, or it is not the same
            function at the second call.
    """
    _check_arguments(module, where)
    called: list[str] = []
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    try:
        with torch.no_grad():
            torch.manual_seed(0)
            outputs = module(x)
            torch.manual_seed(1)
            again = module(x)
    except Exception as error:
        got = f"{type(error).__name__}: {first_line(error)}"
        expected = f"a module that is called with one tensor {list(x.shape)}, float"
        raise MamlError(where, expected=expected, got=got) from error
    finally:
        for hook in hooks:
            hook.remove()
    _check_outputs(outputs, len(x), num_outputs, where)
    if changed := [name for name, value in module.named_buffers() if not torch.equal(value, buffers[name])]:
        why = "What it keeps of one task would reach the others"
        raise MamlError(
            where, expected="a forward that leaves buffers as they are", got=f"one that changes {changed[0]}", why=why
        )
    if not torch.equal(outputs, again):
        expected, got = "the same outputs for the same inputs", "other ones at the second call"
        next_step = "Switch dropout and other noise off"
        raise MamlError(where, expected=expected, got=got, next_step=next_step)
    last = called[-1] if called else None
    computes = last is not None and getattr(module.get_submodule(last), "out_features", None) == num_outputs
    return last if computes and called.count(str(last)) == 2 else None


def _check_arguments(module: nn.Module, where: str) -> None:
    """Raise a MamlError if the forward of a module wants other arguments than one."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):  # what is not written in Python says nothing of its arguments
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise MamlError(
            where,
            expected="a forward of one argument, forward(x)",
            got=f"{type(module).__name__}.forward{signature}",
            next_step="Give the others a default, or wrap it in a module whose forward has x alone",
        ) from error


def _check_outputs(outputs: object, num_inputs: int, num_outputs: int, where: str) -> None:
    expected = f"outputs [{num_inputs}, {num_outputs}] for {num_inputs} inputs"
    if not isinstance(outputs, Tensor):
        raise MamlError(where, expected=expected, got=f"a {type(outputs).__name__}")
    if tuple(outputs.shape) != (num_inputs, num_outputs):
        why = "The tasks need as many outputs as they have classes, or as a target has numbers"
        next_step = f"Give the last layer {num_outputs} outputs, or change tasks.ways"
        got = str(list(outputs.shape))
        raise MamlError(where, expected=expected, got=got, why=why, next_step=next_step)
    if not outputs.is_floating_point():
        raise MamlError(where, expected=expected, got=str(outputs.dtype))
    if not outputs.isfinite().all():
        got = "some that are infinite or not a number, for inputs between 0 and 1"
        raise MamlError(where, expected="finite outputs", got=got)


def check_parameters(module: nn.Module, x: Tensor, where: str) -> None:
    """Raise a MamlError if parameters that require a gradient take no part in the outputs."""
    leaves = {
        name: value.detach().clone().requires_grad_()
        for name, value in module.named_parameters()
        if value.requires_grad
    }
    with torch.enable_grad():
        outputs: Tensor = functional_call(module, leaves, (x,))
    idle = list(leaves)
    if outputs.requires_grad:
        gradients = torch.autograd.grad(outputs.sum(), list(leaves.values()), allow_unused=True)
        idle = [name for name, gradient in zip(leaves, gradients, strict=True) if gradient is None]
    if idle:
        more = f" and {len(idle) - _MOST_SHOWN} more" if len(idle) > _MOST_SHOWN else ""
        raise MamlError(
            where,
            expected="parameters that all take part in the outputs",
            got=f"{', '.join(idle[:_MOST_SHOWN])}{more}, on which they do not depend",
            next_step="Remove them, or keep them as constants with requires_grad_(False)",
        )


def shapes_of(params: Mapping[str, Tensor]) -> list[list[object]]:
    """Return names, shapes and types of tensors, for a manifest."""
    return [[name, list(value.shape), str(value.dtype).removeprefix("torch.")] for name, value in params.items()]
