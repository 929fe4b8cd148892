"""Sections for networks."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mamlcli.recipe.model_schema import CNNModel, MLPModel


def test_defaults_are_those_of_the_release():
    model = CNNModel(kind="cnn")
    assert (model.depth, model.width, model.norm, model.init) == (4, 32, "batch", "release")


def test_keys_of_another_kind_are_refused():
    with pytest.raises(ValidationError, match="stride"):
        MLPModel(kind="mlp", stride=2)
