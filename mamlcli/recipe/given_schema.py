"""Sections of a recipe for networks whose code is not mamlcli's: given from Python, or of an installed package."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mamlcli.recipe.section import Section


class OutsideModel(Section):
    """A network whose layers are known only where it is built: a torch.nn.Module."""

    kind: str


class GivenModel(OutsideModel):
    """A torch.nn.Module that is given from Python: mamlcli.train(..., network=...)."""

    # No layers are appended to it, and its first weights are its own.
    linear_layers: ClassVar[int] = 0
    linear_width: ClassVar[int | None] = None
    width: ClassVar[int | None] = None
    init: ClassVar[str] = "torch"

    kind: Literal["python"]
    norm: Literal["batch", "none"] = Field(
        "none",
        description="batch where the module normalises by statistics of the batch at hand (transductive); set by what "
        "is given",
    )
