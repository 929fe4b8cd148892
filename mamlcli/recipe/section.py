"""All sections of a recipe refuse unknown keys; their numbers have the types here."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_MOST = 1_000_000_000


def _countable(value: int) -> int:
    """Refuse a number of anything that no machine would come to the end of, and that the size of a tensor cannot be."""
    if value > _MOST:
        raise ValueError(f"expected an integer <= {_MOST}")
    return value


Positive = Annotated[int, Field(ge=1), AfterValidator(_countable)]

Several = Annotated[int, Field(ge=2), AfterValidator(_countable)]

# More layers, wider ones or more classes are a slip of the hand; building them would take forever, or all memory.
Depth = Annotated[int, Field(ge=1, le=1000)]

Width = Annotated[int, Field(ge=1, le=100_000)]

Ways = Annotated[int, Field(ge=2, le=10_000)]

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of a recipe; unknown keys are refused, values are not coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)
