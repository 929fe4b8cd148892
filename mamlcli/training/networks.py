"""Makes the network, its first weights and the gradient transform of a recipe, or takes those given from Python."""

from __future__ import annotations

import torch

from mamlcli.common.errors import MamlError
from mamlcli.engine.foreign import ForeignNetwork, initial_values
from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import Network, Params, cnn, linear, mlp
from mamlcli.engine.transforms import GradientTransform, transforms_by_name
from mamlcli.recipe.given_schema import GivenModel, OutsideModel
from mamlcli.recipe.plugin_schema import NetworkKeys, TransformKeys
from mamlcli.recipe.schema import Recipe
from mamlcli.training.given import network_given, transform_given
from mamlcli.training.placement import device_and_dtype
from mamlcli.training.plugins import plugin_network, plugin_transform


def first_params(recipe: Recipe, network: Network, *, dtype: torch.dtype, device: torch.device | str) -> Params:
    """Return the parameters that training starts from: drawn by the recipe's seed, or those that were given."""
    if isinstance(network, ForeignNetwork):
        return {name: value.to(device, dtype) for name, value in initial_values(network).items()}
    assert not isinstance(recipe.model, OutsideModel)
    return initial_params(network, init=recipe.model.init, seed=recipe.seed, dtype=dtype, device=device)


def build_network(recipe: Recipe, input_shape: tuple[int, ...], num_outputs: int) -> Network:
    """Return the network of `recipe.model` for inputs and outputs of these shapes.

    Raises:
        MamlError: a module that is given from Python is not at hand, or cannot be meta-learned; a cnn without images.
    """
    if isinstance(recipe.model, GivenModel):
        device, dtype = device_and_dtype(recipe)
        return network_given(recipe, input_shape, num_outputs, dtype=dtype, device=device)
    if isinstance(recipe.model, NetworkKeys):
        device, dtype = device_and_dtype(recipe)
        return plugin_network(recipe, input_shape, num_outputs, dtype=dtype, device=device)
    if recipe.model.kind == "cnn" and len(input_shape) != 3:
        got = f"inputs {list(input_shape)}"
        raise MamlError("model.kind", expected="mlp or linear for inputs that are no images", got=got)
    make = {"cnn": cnn, "mlp": mlp, "linear": linear}[recipe.model.kind]
    return make(input_shape, num_outputs, **recipe.model.model_dump(exclude={"kind", "init"}))  # type: ignore[operator,no-any-return]


def build_transform(recipe: Recipe) -> GradientTransform:
    """Return the gradient transform that `inner.transform` names.

    Raises:
        MamlError: one that is given from Python is not at hand, or is none.
    """
    spec = recipe.inner.transform
    if spec.name == "python":
        return transform_given(recipe)
    if isinstance(spec, TransformKeys):
        return plugin_transform(spec)
    return transforms_by_name(hidden_layers=spec.hidden_layers, hidden_width=spec.hidden_width)[spec.name]
