"""All sections of a recipe refuse unknown keys; their numbers have the types here."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.config import JsonDict

from mamlcli.common.plugins import NO_TRACKER, tracker_names

# Whole numbers of anything that no machine would come to the end of; a tensor of so many numbers does not fit either.
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]

# Inner steps, tasks of a meta-batch, tasks that are scored, examples of one task: of more, a single part of the work
# would take hours before the first word of it.
Steps = Annotated[int, Field(ge=1, le=100_000)]

MetaBatch = Annotated[int, Field(ge=1, le=100_000)]

Scored = Annotated[int, Field(ge=1, le=10_000_000)]

Several = Annotated[int, Field(ge=2, le=10_000_000)]

Examples = Annotated[int, Field(ge=1, le=1_000_000)]

# Seeds are hashed; a number of thousands of digits could be read and not be written.
Seed = Annotated[int, Field(ge=-(10**18), le=10**18)]

# More layers, wider ones or more classes are a slip of the hand; building them would take forever, or all memory.
Depth = Annotated[int, Field(ge=1, le=1000)]

Width = Annotated[int, Field(ge=1, le=100_000)]

Ways = Annotated[int, Field(ge=2, le=10_000)]

# float32 holds numbers up to 3e38.
Rate = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]

NonNegative = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]

# Shell patterns of parameter names.
Patterns = Annotated[list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=256)]


def _each_once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names) or (NO_TRACKER in names and len(names) > 1):
        raise ValueError(f"expected each name once, and {NO_TRACKER} alone")
    return names


def _name_trackers(schema: JsonDict) -> None:
    """Write into the schema for editors which trackers are known here."""
    schema["enum"] = list(tracker_names())


# One or several names; one is written without brackets, as recipes had it before there were several.
Trackers = Annotated[
    list[Annotated[str, Field(max_length=64, json_schema_extra=_name_trackers)]],
    Field(min_length=1, max_length=16),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    AfterValidator(_each_once),
    PlainSerializer(lambda names: names[0] if len(names) == 1 else names),
]


class Section(BaseModel):
    """A part of a recipe; unknown keys are refused, values are not coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)
