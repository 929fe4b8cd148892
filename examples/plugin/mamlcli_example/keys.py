"""The keys of recipes. No torch is imported here, so that `mamlcli recipes check` is fast."""

from __future__ import annotations

from pydantic import Field

import mamlcli


class Gated(mamlcli.NetworkKeys):
    """Hidden layers of gated linear units, then a linear layer."""

    code = "mamlcli_example.parts:gated"

    depth: int = Field(2, ge=1, le=100, description="hidden layers")
    width: int = Field(32, ge=1, le=10_000, description="units of every hidden layer")


class Steps(mamlcli.TasksKeys):
    """y is `height` to the right of a place that is drawn for each task, and 0 to its left; x is in [-1, 1]."""

    code = "mamlcli_example.parts:Steps"

    height: float = Field(1.0, gt=0, le=1e6, description="height of the step")


class Scale(mamlcli.TransformKeys):
    """A learned factor for the gradient of each parameter tensor."""

    code = "mamlcli_example.parts:Scale"

    start: float = Field(1.0, gt=0, le=1e6, description="factor before training")
