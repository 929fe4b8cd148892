"""Compute a network for a chunk of tasks at once: outputs, gradients, and Hessians times vectors, without vmap.

`TaskNetwork` is a stack of `TaskLayer`s; the functions of `autograd` let the inner loop differentiate through it like
through any other loss. Its parameters, `values`, are tensors [num_tasks, *shape] in the order of `TaskNetwork.layout`,
as `Layout.views` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from mamlcli.engine.explicit.compilation import compiled
from mamlcli.engine.explicit.convolution import TaskConv
from mamlcli.engine.explicit.coverage import layers_of
from mamlcli.engine.explicit.gradients import Gradient, Gradients, all_plus, multiplied_out
from mamlcli.engine.explicit.input_block import TaskInputBlock
from mamlcli.engine.explicit.input_linear import TaskInputLinear, with_input_in_span
from mamlcli.engine.explicit.layers import Saved, TaskFlatten, Tensors
from mamlcli.engine.explicit.layout import Layout
from mamlcli.engine.explicit.losses import loss_gradient, loss_gradient_tangent
from mamlcli.engine.networks import Network


class ForwardPass(NamedTuple):
    """What `pull_back` needs of a forward pass.

    Attributes:
        parameters: of each layer.
        saved: by each layer.
    """

    parameters: list[Tensors]
    saved: list[Saved]


class GradientPass(NamedTuple):
    """What `hessian_vector` needs of a pass forward and back.

    Attributes:
        parameters: of each layer.
        saved: by each layer.
        gradients: for each layer that of its output, and those of its parameters.
        probabilities: of the classes; None for regression.
    """

    parameters: list[Tensors]
    saved: list[Saved]
    gradients: list[tuple[Tensor, Gradients]]
    probabilities: Tensor | None


class TaskNetwork:
    """Computes layers with parameters of each task's own, for a chunk of tasks.

    Args:
        network: the architecture.
        part: "all", "body" or "head".
        first: names of parameters that come first in the layout (those that adapt).
        device_type: "cpu", "cuda" or "mps"; chooses how convolutions are computed.
        is_compiled: whether what computes derivatives goes through `torch.compile`.
        in_span: make the first, linear layer a `TaskInputLinear`; then `step` and `step_vector`, not `gradient` and
            `hessian_vector`, are what they are said to be.

    Raises:
        NotCoveredError: a layer whose derivatives are not written out.
    """

    def __init__(
        self,
        network: Network,
        *,
        part: str,
        first: Sequence[str],
        device_type: str,
        is_compiled: bool = False,
        in_span: bool = False,
    ) -> None:
        layers = layers_of(network, part, device_type)
        spanned = with_input_in_span(layers) if in_span else layers
        assert spanned is not None, "the first layer is linear"
        self.layers = spanned
        names = [name for layer in self.layers for name in layer.names]
        ordered = (*(name for name in names if name in first), *(name for name in names if name not in first))
        shapes = dict(network.named_parameters())
        self.layout = Layout(ordered, tuple(tuple(shapes[name].shape) for name in ordered))
        self._is_image = (
            part != "head"
            and len(network.input_shape) == 3
            and any(isinstance(layer, TaskConv | TaskInputBlock | TaskFlatten) for layer in self.layers[:1])
        )
        if is_compiled:
            for name in ("gradient", "hessian_vector", "step", "step_vector", "features", "pull_back"):
                setattr(self, name, compiled(getattr(self, name)))

    def prepared(self, x: Tensor) -> Tensor:
        """Return the inputs [num_tasks, n, *input_shape] as the first layer takes them."""
        if not self._is_image:
            return x
        x = x.movedim(2, -1).contiguous()
        first = self.layers[0]
        return first.prepared(x) if isinstance(first, TaskConv | TaskInputBlock) else x

    def _by_layer(self, values: Sequence[Tensor]) -> list[Tensors]:
        named = dict(zip(self.layout.names, values, strict=True))
        return [tuple(named[name] for name in layer.names) for layer in self.layers]

    def _by_parameter(self, gradients: Sequence[Gradients]) -> list[Gradient]:
        """Return the gradients of each layer's parameters in the order of the layout."""
        pairs = (zip(layer.names, gp, strict=False) for layer, gp in zip(self.layers, gradients, strict=True))
        named = {name: value for of_layer in pairs for name, value in of_layer}
        return [named[name] for name in self.layout.names]

    def outputs(self, values: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return the outputs [num_tasks, n, num_outputs] of prepared inputs; no derivative is kept."""
        return self._forward(self._by_layer(values), x)[0]

    def _forward(self, parameters: list[Tensors], x: Tensor) -> tuple[Tensor, list[Saved]]:
        saved = []
        for layer, p in zip(self.layers, parameters, strict=True):
            x, saved_by_layer = layer.forward(p, x)
            saved.append(saved_by_layer)
        return x, saved

    def _backward(
        self, parameters: list[Tensors], saved: list[Saved], g: Tensor, with_input: bool
    ) -> tuple[Tensor | None, list[tuple[Tensor, Gradients]]]:
        """Return (gradient of the input; for each layer the gradient of its output and those of its parameters)."""
        gradients = []
        gx: Tensor | None = g
        for index in reversed(range(len(self.layers))):
            assert gx is not None
            gy = gx
            gx, gp = self.layers[index].backward(parameters[index], saved[index], gy, with_input or index > 0)
            gradients.append((gy, gp))
        return gx, gradients[::-1]

    def features(self, values: Sequence[Tensor], x: Tensor) -> tuple[Tensor, ForwardPass]:
        """Return the outputs and what `pull_back` needs."""
        parameters = self._by_layer(values)
        y, saved = self._forward(parameters, x)
        return y, ForwardPass(parameters, saved)

    def pull_back(self, forward_pass: ForwardPass, gy: Tensor, with_input: bool) -> tuple[list[Tensor], Tensor | None]:
        """Return the gradients of the parameters and of the input, for a gradient of the outputs."""
        gx, gradients = self._backward(*forward_pass, gy, with_input)
        return [multiplied_out(value) for value in self._by_parameter([gp for _, gp in gradients])], gx

    def gradient(self, values: Sequence[Tensor], x: Tensor, y: Tensor) -> tuple[list[Tensor], GradientPass]:
        """Return the gradient of each task's loss, and what `hessian_vector` needs."""
        gradient_pass = self._gradient_pass(values, x, y)
        gradients = self._by_parameter([gp for _, gp in gradient_pass.gradients])
        return [multiplied_out(value) for value in gradients], gradient_pass

    def step(self, values: Sequence[Tensor], x: Tensor, y: Tensor, lr: float) -> tuple[list[Tensor], GradientPass]:
        """Return the parameters after a gradient step of rate `lr`, and what `step_vector` needs."""
        gradient_pass = self._gradient_pass(values, x, y)
        updates = [gp for _, gp in gradient_pass.gradients]
        if isinstance(self.layers[0], TaskInputLinear):
            updates[0] = self.layers[0].update(*gradient_pass.gradients[0])
        return self._plus(values, updates, -lr), gradient_pass

    def _plus(self, values: Sequence[Tensor], gradients: Sequence[Gradients], factor: float) -> list[Tensor]:
        """Return tensors in the order of the layout plus `factor` times the gradients of each layer's parameters."""
        return all_plus(values, self._by_parameter(gradients), factor)

    def _gradient_pass(self, values: Sequence[Tensor], x: Tensor, y: Tensor) -> GradientPass:
        parameters = self._by_layer(values)
        outputs, saved = self._forward(parameters, x)
        g, probabilities = loss_gradient(outputs, y)
        _, gradients = self._backward(parameters, saved, g, with_input=False)
        return GradientPass(parameters, saved, gradients, probabilities)

    def hessian_vector(
        self, gradient_pass: GradientPass, v: Sequence[Tensor], with_input: bool
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return the derivative of <gradient, v> with respect to the parameters, H v, and to the input.

        H is symmetric, so this is the derivative of the gradient along v.

        Args:
            gradient_pass: from `gradient`.
            v: tensors like the parameters.
            with_input: whether the second is wanted; None else.
        """
        products, dx = self._hessian_vector(gradient_pass, v, with_input)
        return [multiplied_out(value) for value in self._by_parameter(products)], dx

    def step_vector(
        self, gradient_pass: GradientPass, v: Sequence[Tensor], lr: float, with_input: bool
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return the derivative of <step, v> with respect to the parameters, v - lr H v, and to the input.

        Args:
            gradient_pass: from `step`.
            v: tensors like the parameters.
            lr: the rate of the step.
            with_input: whether the second is wanted; None else.
        """
        products, dx = self._hessian_vector(gradient_pass, v, with_input)
        return self._plus(v, products, -lr), None if dx is None else dx * -lr

    def _hessian_vector(
        self, gradient_pass: GradientPass, v: Sequence[Tensor], with_input: bool
    ) -> tuple[list[Gradients], Tensor | None]:
        """Return what `hessian_vector` does, of each layer by itself."""
        parameters, saved, gradients, probabilities = gradient_pass
        directions = self._by_layer(v)
        moved = []
        dx: Tensor | None = None
        for layer, p, dp, saved_by_layer in zip(self.layers, parameters, directions, saved, strict=True):
            dx, moved_in_layer = layer.tangent(p, dp, saved_by_layer, dx)
            moved.append(moved_in_layer)
        assert dx is not None, "the last layer has parameters"
        dg: Tensor | None = loss_gradient_tangent(probabilities, dx)
        products: list[Gradients] = []
        for i in reversed(range(len(self.layers))):
            assert dg is not None
            layer, p, dp, (gy, gp) = self.layers[i], parameters[i], directions[i], gradients[i]
            dg, dgp = layer.tangent_backward(p, dp, saved[i], moved[i], gy, gp, dg, with_input or i > 0)
            products.append(dgp)
        return products[::-1], dg
