"""The sections of a recipe for networks say the keys of every kind, with types, bounds, defaults and meanings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mamlcli.recipe.given_schema import GivenModel
from mamlcli.recipe.section import Depth, Section, Width


class ModelKeys(Section):
    """Keys that every model has."""

    init: Literal["release", "torch"] = Field(
        "release",
        description="initialisation; release: Xavier uniform, zero biases, norm weights U(0, 1); "
        "torch: the defaults of torch",
    )
    linear_layers: Annotated[int, Field(ge=0, le=1000)] = Field(0, description="linear layers appended to the output")
    linear_width: Width | None = Field(
        None, description="width of the appended linear layers; by default the number of features"
    )


class CNNModel(ModelKeys):
    """Conv blocks, then global mean or flatten, then a linear head."""

    kind: Literal["cnn"]
    depth: Depth = Field(4, description="conv blocks; the head is not counted")
    width: Width = Field(32, description="channels of every block")
    stride: Literal[1, 2] = Field(1, description="stride of every convolution")
    pool: Annotated[int, Field(ge=1, le=8)] = Field(
        1, description="side of the max-pool after every block, in pixels; 1 for none"
    )
    norm: Literal["batch", "none", "group", "layer"] = Field(
        "batch",
        description="norm after every convolution; batch: by statistics of the batch at hand "
        "(transductive); group, layer: by those of each image",
    )
    head: Literal["mean", "flatten"] = Field(
        "mean", description="step from feature maps to features: their mean over pixels, or all their pixels"
    )


class MLPModel(ModelKeys):
    """Hidden layers with a non-linearity, then a linear head."""

    kind: Literal["mlp"]
    depth: Depth = Field(2, description="hidden layers; the head is not counted")
    width: Width = Field(40, description="units of every hidden layer")
    activation: Literal["relu", "tanh"] = Field("relu", description="non-linearity of the hidden layers")


class LinearModel(ModelKeys):
    """Linear layers only: one function class at every depth."""

    kind: Literal["linear"]
    depth: Depth = Field(1, description="linear layers")
    width: Width | None = Field(
        None, description="width of the layers between input and output; by default the number of inputs"
    )
    bias: bool = Field(True, description="whether each layer has a bias")


Model = Annotated[CNNModel | MLPModel | LinearModel | GivenModel, Field(discriminator="kind")]
