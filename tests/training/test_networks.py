"""Networks and transforms of recipes are made by name; those that are given have to be at hand."""

from __future__ import annotations

import pytest
import torch

from mamlcli.common.errors import MamlError
from mamlcli.engine.transforms import KFO
from mamlcli.recipe.files import load_recipe
from mamlcli.training.networks import build_network, build_transform, first_params


def test_network_and_transform_are_those_that_the_recipe_names() -> None:
    recipe = load_recipe("glyphs-5way-1shot", ["inner.transform=kfo", "model.depth=2"])[1]
    network = build_network(recipe, (1, 28, 28), 5)
    assert len(network.body) == 3
    assert isinstance(build_transform(recipe), KFO)
    params = first_params(recipe, network, dtype=torch.float64, device="cpu")
    assert {value.dtype for value in params.values()} == {torch.float64}


def test_parts_that_are_not_at_hand_are_named() -> None:
    recipe = load_recipe("glyphs-5way-1shot", ["inner.transform=python"])[1]
    with pytest.raises(MamlError, match=r"inner.transform.name=python: expected the transform .* transform=..."):
        build_transform(recipe)
