"""The types here hold what `mamlcli layers` finds out about a run, and give its JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mamlcli.common.statistics import Estimate
from mamlcli.engine.evaluation import Array
from mamlcli.runs.report import Protocol
from mamlcli.studies.layers.operators import LayerFactors
from mamlcli.studies.layers.optimum import OptimumReport


@dataclass(frozen=True)
class MovementRow:
    """A movement row says how far one layer moves.

    Attributes:
        layer: its name.
        num_parameters, num_adapted: of the layer, and those of them that may move.
        size: Euclidean norm of its parameters before adaptation.
        distance, relative: how far it moves, and that by its size, over tasks.
    """

    layer: str
    num_parameters: int
    num_adapted: int
    size: float
    distance: Estimate
    relative: Estimate

    def to_json(self) -> dict[str, object]:
        """Return the row as `mamlcli layers --json` has it."""
        return {**vars(self), "distance": over_tasks(self.distance), "relative": over_tasks(self.relative)}


@dataclass(frozen=True)
class PartScore:
    """A part score is a query score when some layers may move, and its distance from that with all layers."""

    value: Estimate
    minus_all_layers: Estimate


@dataclass(frozen=True)
class PartialRow:
    """A partial row has the query scores when only some layers may move.

    Attributes:
        part: "lower" or "upper".
        num_layers: the layers that may move, counted from the input or from the output.
        layers: their names.
        loss, accuracy: after adaptation; no accuracy for regression.
    """

    part: str
    num_layers: int
    layers: tuple[str, ...]
    loss: PartScore
    accuracy: PartScore | None

    @property
    def scores(self) -> dict[str, PartScore]:
        """Return the scores that there are, by name."""
        return {"loss": self.loss} if self.accuracy is None else {"loss": self.loss, "accuracy": self.accuracy}

    def to_json(self) -> dict[str, object]:
        """Return the row as `mamlcli layers --json` has it."""
        return {
            "part": self.part,
            "num_layers": self.num_layers,
            "layers": list(self.layers),
            **{name: over_tasks(score.value) for name, score in self.scores.items()},
            "minus_all_layers": {name: over_tasks(score.minus_all_layers) for name, score in self.scores.items()},
        }


@dataclass(frozen=True)
class OperatorReport:
    """An operator report says what stands between the gradient of a linear head and its movement.

    Attributes:
        inner_lr: alpha.
        transform: the name of the gradient transform.
        layers: what the other layers do to the gradient of each.
        spectrum: singular values of all layers and the transform together, largest first; None where it is not known.
        optimum: the comparison with the best operator of the tasks; None where that is not known.
    """

    inner_lr: float
    transform: str
    layers: tuple[LayerFactors, ...]
    spectrum: Array | None
    optimum: OptimumReport | None

    def to_json(self) -> dict[str, object]:
        """Return the report as `mamlcli layers --json` has it."""
        return {
            "inner_lr": self.inner_lr,
            "transform": self.transform,
            "layers": [layer.to_json() for layer in self.layers],
            "spectrum": None if self.spectrum is None else self.spectrum.tolist(),
            "optimum": None if self.optimum is None else self.optimum.to_json(),
        }


@dataclass(frozen=True)
class BottomRow:
    """A bottom row sums up a `BottomUpdate` over tasks.

    Attributes:
        layers: the bottom layers.
        upper_is_linear: whether all layers above are linear.
        num_features, rank, num_points: of the head alone, its features and its fit.
        explained: share of the full outputs' variance that the head alone explains; None where there is none.
        angle_deg, length_ratio: between the two updates, over tasks.
    """

    layers: tuple[str, ...]
    upper_is_linear: bool
    num_features: int
    rank: int
    num_points: int
    explained: float | None
    angle_deg: Estimate
    length_ratio: Estimate

    @property
    def num_layers(self) -> int:
        """The number of bottom layers."""
        return len(self.layers)

    def to_json(self) -> dict[str, object]:
        """Return the row as `mamlcli layers --json` has it."""
        return {
            "num_layers": self.num_layers,
            **vars(self),
            "layers": list(self.layers),
            "angle_deg": over_tasks(self.angle_deg),
            "length_ratio": over_tasks(self.length_ratio),
        }


@dataclass(frozen=True)
class CollapseReport:
    """A collapse report says how far adapted stacks and their collapsed models are apart, and how large both are.

    Attributes:
        num_parameters, num_parameters_collapsed: of the stack and of its collapsed model.
        max_difference, max_relative_difference: of outputs, over all tasks; relative to the largest output.
        tolerance: the relative difference that rounding explains.
    """

    num_parameters: int
    num_parameters_collapsed: int
    max_difference: float
    max_relative_difference: float
    tolerance: float


@dataclass(frozen=True)
class LayersReport:
    """A layers report holds all that `mamlcli layers` shows.

    Attributes:
        run, recipe, weights: what was studied: the run's path, its recipe's name, and which weights in words.
        protocol: that of evaluation.json.
        movement: a row for each layer, from input to output.
        partial: a row for each part and number of layers, the upper ones last.
        operator, operator_note: None without operators, and then the note says why; a note may stand beside them.
        bottom: a row for each number of bottom layers.
        collapse: None where the head is one layer.
    """

    run: str
    recipe: str
    weights: str
    protocol: Protocol
    movement: tuple[MovementRow, ...]
    partial: tuple[PartialRow, ...]
    operator: OperatorReport | None
    operator_note: str | None
    bottom: tuple[BottomRow, ...]
    collapse: CollapseReport | None

    def to_json(self) -> dict[str, object]:
        """Return what `mamlcli layers --json` prints."""
        return {
            **vars(self),
            "protocol": self.protocol.to_json(),
            "movement": [row.to_json() for row in self.movement],
            "partial": [row.to_json() for row in self.partial],
            "operator": None if self.operator is None else self.operator.to_json(),
            "bottom": [row.to_json() for row in self.bottom],
            "collapse": None if self.collapse is None else vars(self.collapse),
        }


def over_tasks(value: Estimate) -> dict[str, float | None]:
    """Return mean and 95 % half-width over tasks as JSON has them; None for numbers that do not exist."""
    return {
        "mean": value.mean if math.isfinite(value.mean) else None,
        "ci95_over_tasks": value.ci95 if math.isfinite(value.ci95) else None,
    }
