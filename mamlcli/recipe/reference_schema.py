"""The section of a recipe that says which number it should reproduce; it is no part of what a run does."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mamlcli.recipe.section import NonNegative, Rate, Section, Steps


class Reference(Section):
    """The number that the recipe should reproduce, for `mamlcli recipes verify`; a run does not depend on it."""

    metric: Literal["accuracy", "squared-error"] = Field(
        description="quantity on query sets; accuracy: in per cent; squared-error: the mean squared error, twice the "
        "loss of regression, which is half the squared error"
    )
    value: NonNegative = Field(description="number to reach; an accuracy in per cent")
    margin: Rate = Field(description="largest difference that counts as equal, in the unit of the value")
    steps: Steps | None = Field(None, description="inner steps after which it holds; by default evaluation.steps")
    source: str = Field("", description="origin of the number: paper or command, with its interval and protocol")
