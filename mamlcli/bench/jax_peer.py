"""This module is the peer in JAX: `jit` of a gradient through gradients, all tasks of a meta-batch by `vmap`.

Tensors go from torch to JAX and back without a copy where both are on one device. What is compiled is kept: once for
every network, number of tasks, precision, and one thread or all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from mamlcli.bench.peer_problem import (
    GradientsOfTasks,
    MetaGradientFunction,
    Params,
    PeerProblem,
    ScoresOfTasks,
    Task,
    stacked,
)
from mamlcli.bench.traffic import add_traffic

if TYPE_CHECKING:
    from jax import Array

    Arrays = dict[str, Array]

_EPSILON = 1e-5  # of torch's batch norm


@dataclass(frozen=True)
class _Static:
    """Holds what a compiled function is made for, beside the shapes."""

    what: str
    lr: float
    num_steps: int
    stride: int
    head_only: bool
    names: tuple[str, ...]  # JAX sorts the keys of dictionaries
    xi_names: tuple[str, ...]
    adapted: tuple[str, ...]
    is_single: bool


def by_jax(problem: PeerProblem) -> MetaGradientFunction:
    """Return the meta-gradient by `jax.jit`: a gradient through inner steps by `jax.grad`, under `jax.vmap`.

    Convolutions are products of patches: with weights of each task's own, `vmap` makes grouped convolutions, which
    XLA computes several times slower on the CPU. Inner steps are written one after the other:
    a `scan` takes half as long to compile and a tenth longer to run.

    Source: the MAML example of JAX's documentation (vmap over tasks, grad through grad), its network that of here.
    """
    gradients, tasks = jax_gradients(problem, problem.theta, problem.xi), [*_one_batch(problem.tasks())]
    return lambda: dict(zip(problem.flat_names(), gradients(tasks), strict=True))


def jax_gradients(problem: PeerProblem, theta: Params, xi: Params) -> GradientsOfTasks:
    """Return JAX's meta-gradient as a function of the tasks, at tensors that may change between calls."""

    def compute(tasks: Sequence[Task]) -> list[Tensor]:
        found = _run(_static(problem, "gradient"), _arrays(theta), _arrays(xi), _parts(tasks))
        return [from_dlpack(value) for value in found]

    return compute


def jax_scores(problem: PeerProblem) -> ScoresOfTasks:
    """Return the scores at every inner step by JAX, the tasks of a call by `vmap`."""

    def compute(tasks: Sequence[Task]) -> Tensor:
        [found] = _run(_static(problem, "scores"), _arrays(problem.theta), {}, _parts(tasks))
        scores: Tensor = from_dlpack(found)
        return scores

    return compute


class _Batch(tuple[Tensor, Tensor, Tensor, Tensor]):
    """The tasks of a meta-batch, already stacked."""


def _one_batch(tasks: Sequence[Task]) -> list[Task]:
    return [_Batch(stacked(tasks))]


def _parts(tasks: Sequence[Task]) -> Sequence[Tensor]:
    return tasks[0] if isinstance(tasks[0], _Batch) else stacked(tasks)


def _static(problem: PeerProblem, what: str) -> _Static:
    names = (tuple(problem.theta), tuple(problem.xi), tuple(problem.adapted()))
    is_single = torch.get_num_threads() == 1
    return _Static(what, problem.lr, problem.num_steps, problem.stride, problem.head_only, *names, is_single)


def _array(tensor: Tensor) -> Array:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)  # else float64 would become float32; float32 stays
    tensor = tensor.detach()
    return jnp.from_dlpack(tensor.to(torch.int32) if tensor.dtype == torch.int64 else tensor.contiguous())


def _arrays(tensors: Params) -> Arrays:
    return {name: _array(value) for name, value in tensors.items()}


# What was compiled, by what it was made for and the shapes, with the bytes that it reads and writes.
_COMPILED: dict[tuple[object, ...], tuple[Callable[..., list[Array]], float]] = {}


def _run(static: _Static, theta: Arrays, xi: Arrays, tensors: Sequence[Tensor]) -> list[Array]:
    """Compute on the arguments, and compile before where they have new shapes; return when all is computed."""
    import jax

    data = [_array(tensor) for tensor in tensors]
    arrays = [*theta.values(), *xi.values(), *data]
    key = (static, *theta, *xi, *((array.shape, str(array.dtype)) for array in arrays))
    if key not in _COMPILED:
        options = {"xla_cpu_multi_thread_eigen": False} if static.is_single and _is_on_cpu() else None
        compiled = jax.jit(_function(static), compiler_options=options).lower(theta, xi, data).compile()
        costs = compiled.cost_analysis() or {}
        _COMPILED[key] = compiled, float(costs.get("bytes accessed", 0.0))
    function, num_bytes = _COMPILED[key]
    add_traffic(num_bytes)
    found: list[Array] = jax.block_until_ready(function(theta, xi, data))
    return found


def _is_on_cpu() -> bool:
    import jax

    return bool(jax.default_backend() == "cpu")


# The network and the objective ------------------------------------------------------------------------------------


def _function(static: _Static) -> Callable[..., list[Array]]:
    """Return the function of (theta, xi, data) that is compiled: the gradients in the order of both, or the scores."""
    import jax

    over_tasks = {"in_axes": (None, None, 0, 0, 0, 0)}

    def mean_loss(parameters: tuple[Arrays, Arrays], data: list[Array]) -> Array:
        return jax.vmap(lambda *a: _outer_loss(static, *a), **over_tasks)(*parameters, *data).mean()

    if static.what == "scores":
        return lambda theta, xi, data: [jax.vmap(lambda *a: _scores(static, *a), **over_tasks)(theta, xi, *data)]

    def gradients(theta: Arrays, xi: Arrays, data: list[Array]) -> list[Array]:
        of_theta, of_xi = jax.grad(mean_loss)((theta, xi), data)
        return [*(of_theta[name] for name in static.names), *(of_xi[name] for name in static.xi_names)]

    return gradients


def _outer_loss(static: _Static, theta: Arrays, xi: Arrays, *task: Array) -> Array:
    support_x, support_y, query_x, query_y = task
    if static.head_only:
        support_x, query_x = _joint_features(static, theta, support_x, query_x)
    fast = {name: theta[name] for name in static.adapted}
    for _ in range(static.num_steps):
        fast = _step(static, fast, xi, support_x, support_y)
    return _loss(static, fast, query_x, query_y)


def _scores(static: _Static, theta: Arrays, xi: Arrays, *task: Array) -> Array:
    import jax.numpy as jnp

    support_x, support_y, query_x, query_y = task
    fast, rows = theta, []
    for step in range(static.num_steps + 1):
        row = []
        for x, y in ((support_x, support_y), (query_x, query_y)):
            outputs = _forward(static, fast, x)
            row += [_cross_entropy(outputs, y), (outputs.argmax(1) == y).astype(outputs.dtype).mean()]
        rows.append(jnp.stack(row))
        if step < static.num_steps:
            fast = _step(static, fast, xi, support_x, support_y)
    return jnp.stack(rows)


def _step(static: _Static, fast: Arrays, xi: Arrays, x: Array, y: Array) -> Arrays:
    import jax

    gradients = jax.grad(lambda fast: _loss(static, fast, x, y))(fast)
    if xi:
        gradients = {name: _kfo_update(xi, name, gradient) for name, gradient in gradients.items()}
    return {name: value - static.lr * gradients[name] for name, value in fast.items()}


def _kfo_update(xi: Arrays, name: str, gradient: Array) -> Array:
    """Return A^T A G B^T B, as `kfo_updates`."""
    left, right = xi[f"{name}/left"], xi[f"{name}/right"]
    shape = gradient.shape
    matrix = gradient.reshape(*shape[:2], -1) if len(shape) == 4 else gradient.reshape(shape[0], -1)
    return (left.T @ left @ matrix @ (right.T @ right)).reshape(shape)


def _loss(static: _Static, params: Arrays, x: Array, y: Array) -> Array:
    return _cross_entropy(_forward(static, params, x), y)


def _cross_entropy(outputs: Array, y: Array) -> Array:
    import jax
    import jax.numpy as jnp

    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], axis=1).mean()


def _joint_features(static: _Static, theta: Arrays, support_x: Array, query_x: Array) -> tuple[Array, Array]:
    import jax.numpy as jnp

    body = {name: value for name, value in theta.items() if name.startswith("body.")}
    features = _forward(static, body, jnp.concatenate([support_x, query_x]))
    return features[: len(support_x)], features[len(support_x) :]


def _forward(static: _Static, params: Arrays, x: Array) -> Array:
    block = 0
    while (name := f"body.{block}") and f"{name}.conv.weight" in params:
        x = x if block else x.transpose(0, 2, 3, 1)  # channels last, so that a patch is one row of a product
        x = _block(params, name, x, static.stride)
        block += 1
    if block:
        x = x.mean((1, 2))
    layer = 0
    while f"head.{layer}.weight" in params:
        x = x @ params[f"head.{layer}.weight"].T + params[f"head.{layer}.bias"]
        layer += 1
    return x


def _block(params: Arrays, name: str, x: Array, stride: int) -> Array:
    """Return relu(norm(convolution(x))), [n, height, width, channels]; the convolution is a product of patches."""
    import jax

    weight = params[f"{name}.conv.weight"].transpose(2, 3, 1, 0)
    x = _patches(x, stride) @ weight.reshape(-1, weight.shape[-1]) + params[f"{name}.conv.bias"]
    mean = x.mean((0, 1, 2))
    variance = ((x - mean) ** 2).mean((0, 1, 2))
    scale = params[f"{name}.norm.weight"] * jax.lax.rsqrt(variance + _EPSILON)
    return jax.nn.relu((x - mean) * scale + params[f"{name}.norm.bias"])


def _patches(x: Array, stride: int) -> Array:
    """Return the 3x3 patches around each pixel of the output, [n, height, width, 9 * channels]."""
    import jax.numpy as jnp

    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [(row, column) for row in range(3) for column in range(3)]
    shifted = [padded[:, row : row + height : stride, column : column + width : stride] for row, column in places]
    return jnp.concatenate(shifted, axis=-1)
