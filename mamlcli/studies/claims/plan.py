"""A plan registers a reproduction before its first tested run: what is run, what is predicted, when it is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mamlcli.studies.claims.contrasts import CellValue, Contrast
from mamlcli.studies.claims.decisions import Looks

# No seed whose result was seen while a prediction was written is among those tested.
FIRST_SEED = 100
PILOT_SEEDS = (1, 2)


@dataclass(frozen=True)
class Family:
    """A family is one sweep of a reproduction: a source of tasks under one algorithm.

    Attributes:
        key: of its study, as in "glyphs-maml".
        words: for tables.
        role: "linear-regression", "logistic", "maml" or "anil": which claims it is evidence for; "transforms" for
            one of transforms alone, whose rows stand beside C4.
        recipe: name of the shipped recipe.
        changes: dotted overrides, as on the command line.
        values: of its cells.
        rates: value key -> inner learning rate, from pilots; empty until they have run.
        first_rates: value key -> where the pilots' grid starts; the recipe's rate where there is none.
        pack: that must be there, or None.
        more: value key -> further dotted keys.
        adapts: whether transforms are adapted in the inner loop.
        excess: query loss of the shallow model above the floor, from pilots, in nats; None where there is no floor.
    """

    key: str
    words: str
    role: str
    recipe: str
    changes: tuple[str, ...]
    values: tuple[CellValue, ...]
    rates: Mapping[str, float] = field(default_factory=dict)
    first_rates: Mapping[str, float] = field(default_factory=dict)
    pack: str | None = None
    more: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    adapts: bool = False
    excess: float | None = None


@dataclass(frozen=True)
class Plan:
    """A plan is all of a reproduction that is fixed before its first tested run.

    Attributes:
        scale: its name.
        words: what the scale is, one sentence.
        looks: at which numbers of seeds the predictions are tested.
        first_seed: of those tested; they count up from it.
        pilot_seeds: on which rates were chosen; never tested.
        families: what is run, with their rates.
        left_out: families of the scale that are not run, and why, in words.
        contrasts: the predictions.
        versions: of the code and its libraries.
        created: UTC time, ISO 8601.
    """

    scale: str
    words: str
    looks: Looks
    first_seed: int
    pilot_seeds: tuple[int, ...]
    families: tuple[Family, ...]
    left_out: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    versions: Mapping[str, str]
    created: str
