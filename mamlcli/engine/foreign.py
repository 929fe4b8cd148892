"""Any torch.nn.Module as a network: a copy of it, called through `functional_call`, that can be differentiated twice.

Its parameters that require a gradient are the meta-parameters, under their own names; the others, and its buffers, are
constants. What it cannot be is refused by `foreign_checks`.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from mamlcli.common.architecture import ParameterNames
from mamlcli.common.errors import MamlError
from mamlcli.common.words import first_line
from mamlcli.engine.execution import Execution, meta_gradients
from mamlcli.engine.foreign_checks import check_forward, check_module, check_parameters
from mamlcli.engine.inner_loop import InnerLoop
from mamlcli.engine.networks import BatchStatisticsNorm, Network, Params
from mamlcli.engine.objective import MetaObjective, MetaParams
from mamlcli.tasks.episodes import Episode

# Inputs that a module is tried on.
_NUM_TRIED = 4

# Largest difference between meta-gradients by vmap and task by task, relative to the largest entry, by rounding.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-2}

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class ForeignNetwork(Network):
    """A module that was given, as a network. `foreign_network` makes it.

    Args:
        module: [n, *input_shape] -> [n, width], width at least `num_outputs`.
        input_shape: the shape of one input.
        num_outputs: of its outputs the first so many are used.
        output_layer: the name of the linear layer that computes the outputs; None where there is none.
        unmapped: why tasks are computed one by one; None where they are mapped by vmap.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, ...],
        num_outputs: int,
        output_layer: str | None,
        unmapped: str | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.module = module
        self.input_shape = input_shape
        self.output_layer = output_layer
        self._num_outputs = num_outputs
        self._unmapped = unmapped

    @property
    def num_outputs(self) -> int:
        return self._num_outputs

    @property
    def is_split(self) -> bool:
        return False

    @property
    def has_features(self) -> bool:
        return self.output_layer is not None

    @property
    def unmapped(self) -> str | None:
        return self._unmapped

    @property
    def holder(self) -> nn.Module:
        return self.module

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the meta-parameters, the parameters of the module that require a gradient, by their names there."""
        for name, parameter in self.module.named_parameters(prefix, recurse, remove_duplicate):
            if parameter.requires_grad:
                yield name, parameter

    def head_parameter_names(self) -> tuple[str, ...]:
        if self.output_layer is None:
            return ()
        own = {f"{self.output_layer}.{part}" if self.output_layer else part for part in ("weight", "bias")}
        return tuple(name for name in self.parameter_names() if name in own)

    def names_by_part(self) -> ParameterNames:
        head = self.head_parameter_names()
        return ParameterNames(tuple(name for name in self.parameter_names() if name not in head), head, head)

    def forward(self, x: Tensor, part: str = "all") -> Tensor:
        """Return the outputs, or with `part="body"` the features, which are what the output layer gets."""
        return self._called(lambda: self.module(x), part)

    def with_params(self, params: Mapping[str, Tensor], x: Tensor, part: str = "all") -> Tensor:
        return self._called(lambda: functional_call(self.module, dict(params), (x,)), part)

    def with_outputs(self, number: int) -> ForeignNetwork:
        """Return the network of the first outputs alone; it shares the module."""
        return ForeignNetwork(self.module, self.input_shape, number, self.output_layer, self.unmapped)

    def _called(self, call: Callable[[], Tensor], part: str) -> Tensor:
        features: list[Tensor] = []
        with ExitStack() as stack:
            stack.enter_context(_twice_differentiable())
            if part == "body":
                assert self.output_layer is not None, "features are asked for where the output layer is known"
                layer = self.module.get_submodule(self.output_layer)
                hook = layer.register_forward_pre_hook(lambda _, args: features.append(args[0]))
                stack.callback(hook.remove)
            outputs = call()
        return features[-1] if part == "body" else outputs[:, : self._num_outputs]


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """Let torch compute attention and recurrent layers by operations that can be differentiated twice."""
    is_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fast)


def foreign_network(
    module: object,
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    dtype: torch.dtype,
    device: torch.device,
    where: str = "network",
    needs_exact: bool = True,
) -> ForeignNetwork:
    """Return a module that was given as a network, once all is checked; the module itself stays as it is.

    Args:
        module: called with one tensor, [n, *input_shape] float -> [n, num_outputs].
        input_shape, num_outputs: of the tasks.
        dtype, device: of its parameters and buffers, in the copy.
        where: the first word of messages.
        needs_exact: whether its gradients are differentiated again; not with `inner.first_order`.

    Raises:
        MamlError: it is no module, it keeps something of a batch (running statistics), it is random (dropout), its
            forward cannot be called with one tensor, its outputs are of another shape, or some parameters take no part.
    """
    checked = check_module(module, where)
    try:
        made = copy.deepcopy(checked).to(device=device, dtype=dtype)
    except Exception as error:
        got = f"{type(checked).__name__}, which cannot be copied ({first_line(error)})"
        raise MamlError(where, expected="a module that copy.deepcopy takes", got=got) from error
    _write_out_norms(made)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2 * _NUM_TRIED, *input_shape, generator=generator, dtype=torch.float64).to(device, dtype)
    with _twice_differentiable(), torch.random.fork_rng():
        output_layer = check_forward(made, x[:_NUM_TRIED], num_outputs, where)
        check_parameters(made, x[:_NUM_TRIED], where)
    network = ForeignNetwork(made, input_shape, num_outputs, output_layer)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unmapped = _why_unmapped(*_precise(network, x), where, needs_exact=needs_exact)
    return ForeignNetwork(made, input_shape, num_outputs, output_layer, unmapped)


def initial_values(network: ForeignNetwork) -> Params:
    """Return the meta-parameters that the module was given with."""
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def with_batch_statistics(module: nn.Module) -> nn.Module:
    """Return a copy of a module whose batch norms normalise by the batch at hand, and keep no running statistics.

    It has the same parameters under the same names. It is what MAML's batch norms do: in the inner loop, and on the
    query set, which is normalised together (`evaluation.batch_norm=support` scores by the support set's statistics).
    """
    changed = copy.deepcopy(module)
    for layer in changed.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase):
            layer.track_running_stats = False
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                if name in layer._buffers:
                    setattr(layer, name, None)
    return changed


def has_batch_norm(module: nn.Module) -> bool:
    """Return whether the outputs for an input depend on the others of its batch, through batch norms."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())


class _LayerNorm(nn.LayerNorm):
    """Computes what `nn.LayerNorm` does, written out: the second derivative of torch's is wrong under vmap (2.14)."""

    def forward(self, x: Tensor) -> Tensor:
        dims = tuple(range(-len(self.normalized_shape), 0))
        variance, mean = torch.var_mean(x, dim=dims, correction=0, keepdim=True)
        normalised = (x - mean) * torch.rsqrt(variance + self.eps)
        scaled = normalised if self.weight is None else normalised * self.weight
        return scaled if self.bias is None else scaled + self.bias


def _write_out_norms(module: nn.Module) -> None:
    """Exchange the batch and layer norms of a module for ones whose second derivative is right under vmap."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            norm: nn.Module
            if isinstance(child, _BATCH_NORMS) and type(child) in _BATCH_NORMS:
                norm = BatchStatisticsNorm(child.num_features, child.eps)
            elif type(child) is nn.LayerNorm:
                norm = _LayerNorm(child.normalized_shape, child.eps, elementwise_affine=False)
            else:
                continue
            norm.weight, norm.bias = child.weight, child.bias
            if norm.weight is None and isinstance(norm, BatchStatisticsNorm):
                norm.weight = nn.Parameter(torch.ones(child.num_features), requires_grad=False)
                norm.bias = nn.Parameter(torch.zeros(child.num_features), requires_grad=False)
            setattr(parent, name, norm)


def _precise(network: ForeignNetwork, x: Tensor) -> tuple[ForeignNetwork, Tensor]:
    """Return a network and its inputs in float64 on the CPU, where the module takes that."""
    module, inputs = copy.deepcopy(network.module).to("cpu", torch.float64), x.to("cpu", torch.float64)
    precise = ForeignNetwork(module, network.input_shape, network.num_outputs, network.output_layer)
    try:
        with torch.no_grad():
            precise(inputs)
    except Exception:  # a forward that makes tensors of a type or a device of its own
        return network, x
    return precise, inputs


def _why_unmapped(network: ForeignNetwork, x: Tensor, where: str, *, needs_exact: bool) -> str | None:
    """Return why tasks cannot be mapped by vmap: it fails, or gives another meta-gradient than task by task."""
    gradients = functools.partial(_meta_gradient, network, x)
    try:
        alone = gradients("loop", first_order=False)
    except Exception as error:
        if needs_exact:
            raise MamlError(
                where,
                expected="a network whose gradient can be differentiated again",
                got=first_line(error),
                next_step="Set inner.first_order=true, or inner.algorithm=fomaml",
            ) from error
        alone = gradients("loop", first_order=True)
    try:
        mapped = gradients("batched", first_order=not needs_exact)
    except Exception as error:
        return f"torch.func.vmap does not take it ({first_line(error)})"
    alone = alone if needs_exact else gradients("loop", first_order=True)
    largest = max(float(value.abs().max()) for value in alone.values())
    differences = [float((value - mapped[name]).abs().max()) for name, value in alone.items()]
    if not max(differences) <= _TOLERANCE[x.dtype] * largest:
        return "torch.func.vmap gives another gradient than task by task"
    return None


def _meta_gradient(network: ForeignNetwork, x: Tensor, path: str, *, first_order: bool) -> Params:
    """Return the meta-gradient of two tasks of two inputs each, after one inner step."""
    names = network.parameter_names()
    objective = MetaObjective(network, InnerLoop(names, lr=0.01, num_inner_steps=1, first_order=first_order))
    of_tasks = x.view(2, 2, -1, *network.input_shape)  # [tasks, support and query, n, ...]
    y = torch.arange(of_tasks.shape[2], device=x.device) % network.num_outputs
    targets = y.expand(2, -1) if network.num_outputs > 1 else x.new_ones(2, len(y), 1)
    episode = Episode(of_tasks[:, 0], targets, of_tasks[:, 1], targets, truth={})
    meta = MetaParams(initial_values(network), {})
    [gradient] = meta_gradients(objective, [meta], episode, Execution(path, 2 if path == "batched" else 1))
    return gradient.gradients
