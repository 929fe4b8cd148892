"""A plan registers a reproduction in plan.json before its first tested run: what is run, predicted, and looked at when.

plan.json is written once and never again. Its digest is that of its content, so that two reports with one digest are
of one plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mamlcli.common.errors import MamlError
from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.json_reading import json_object
from mamlcli.studies.claims.contrasts import COLLAPSED, CellValue, Contrast
from mamlcli.studies.claims.decisions import Looks

PLAN_FILE = "plan.json"

# The folder of the pilots beside it.
PILOTS = "pilots"
_SCHEMA = 1

# Where the inner rates of a plan come from.
OF_SCALE, OF_PILOTS = "scale", "pilots"

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

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Family:
        """Return the family in plan.json."""
        values = tuple(CellValue(**cell) for cell in value["values"])
        return cls(**{**value, "changes": tuple(value["changes"]), "values": values})


def cell_changes(family: Family, value: CellValue) -> dict[str, object]:
    """Return the dotted keys of a cell that differ from the family's recipe, but for seed and inner rate."""
    return {
        "model.depth": value.depth,
        "model.linear_layers": value.layers,
        **({} if value.width is None else {"model.width": value.width}),
        "inner.transform": {"name": value.optimizer, "adapted": family.adapts and value.optimizer != "none"},
        **family.more.get(value.key, {}),
    }


@dataclass(frozen=True)
class Amounts:
    """Amounts say how many tasks and steps the controls beside the cells take.

    Attributes:
        premise_tasks: tasks that the networks of C2's premise are trained on, each alone; a few are enough for
            differences of some points.
        premise_steps: of Adam, at most, on each of them; taken by the hundred.
        control_tasks: meta-validation tasks that each inner learning rate of C3's control is tried on.
    """

    premise_tasks: int = 10
    premise_steps: int = 1000
    control_tasks: int = 200


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
        rates_from: "scale", where the scale has the rates of earlier pilots, or "pilots", run for this plan.
        registered_amounts: of the controls; None in plans of before they were registered, which have the amounts
            of `Amounts()`.
        registered_recipes: the resolved recipe of each cell, by the families' keys, as `frozen_recipes` returns them;
            None in plans of before they were registered.
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
    rates_from: str = OF_SCALE
    registered_amounts: Amounts | None = None
    registered_recipes: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def amounts(self) -> Amounts:
        """How many tasks and steps the controls take."""
        return self.registered_amounts or Amounts()

    def control_tasks(self, family: Family) -> int:
        """Return the tasks of the control of a family's stacks; 0 where no prediction is about them collapsed."""
        is_predicted = any(
            contrast.study == family.key and any(value.endswith(COLLAPSED) for value, _ in contrast.terms)
            for contrast in self.contrasts
        )
        return self.amounts.control_tasks if is_predicted else 0

    @property
    def digest(self) -> str:
        """The SHA-256 of the plan's content, in hexadecimal."""
        return _digest(self._content())

    def seeds(self, num_seeds: int) -> range:
        """Return the first of the tested seeds."""
        return range(self.first_seed, self.first_seed + num_seeds)

    def to_json(self) -> dict[str, object]:
        """Return the content of plan.json, with its digest."""
        content = self._content()
        return {"schema": _SCHEMA, "digest": _digest(content), **content}

    def _content(self) -> dict[str, Any]:
        # Through JSON, so that a plan that was read has the digest of the one that was written.
        content: dict[str, Any] = json.loads(json_text(asdict(self)))
        # What a plan did not have when it was registered is not in its digest.
        for later in ("registered_amounts", "registered_recipes"):
            if content[later] is None:
                del content[later]
        return content

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Return the plan in plan.json."""
        content = {key: item for key, item in value.items() if key not in ("schema", "digest")}
        looks, amounts = value["looks"], value.get("registered_amounts")
        return cls(
            **{
                **content,
                "looks": Looks(tuple(looks["seeds"]), tuple(looks["alphas"])),
                "pilot_seeds": tuple(value["pilot_seeds"]),
                "families": tuple(map(Family.from_json, value["families"])),
                "left_out": tuple(value["left_out"]),
                "contrasts": tuple(map(Contrast.from_json, value["contrasts"])),
                "registered_amounts": None if amounts is None else Amounts(**amounts),
            }
        )


def _digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object, whatever the order of its keys and its spaces."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_plan(path: Path, plan: Plan) -> None:
    """Write plan.json to a folder that has none.

    Raises:
        FileExistsError: there is one.
    """
    if (path / PLAN_FILE).exists():
        raise FileExistsError(path / PLAN_FILE)
    path.mkdir(parents=True, exist_ok=True)
    atomic_write(path / PLAN_FILE, json_text(plan.to_json()).encode())


@dataclass(frozen=True)
class OpenedPlan:
    """An opened plan is the plan of a folder.

    Attributes:
        plan: as plan.json has it.
        registered: the digest that plan.json names.
    """

    plan: Plan
    registered: str

    @property
    def is_edited(self) -> bool:
        """Whether plan.json was changed after it was registered."""
        return self.registered != self.plan.digest


def read_plan(path: Path) -> OpenedPlan | None:
    """Return the plan of a folder; None where it has none.

    Raises:
        MamlError: plan.json cannot be read as a plan.
    """
    file = path / PLAN_FILE
    if not file.exists():
        return None
    try:
        value = json_object(file)
        plan, registered = Plan.from_json(value), str(value["digest"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise MamlError(
            str(file),
            expected="the plan of a reproduction",
            got=f"{type(error).__name__}: {error}",
            next_step="Restore the file, or name another --dir",
        ) from error
    return OpenedPlan(plan, registered)
