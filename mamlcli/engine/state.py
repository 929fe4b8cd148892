"""Hold the state of the outer loop between two meta-iterations, and its settings; export and restore it exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mamlcli.engine.networks import Params
from mamlcli.engine.objective import MetaParams

OPTIMIZER = "optimizer/"

# What a state holds beside tensors, by attribute.
Primitive = int | float | bool | None
PRIMITIVES = ("iteration", "best_score", "best_iteration", "num_without_best", "last_validated", "is_stopped")


def is_meta_parameter(name: str) -> bool:
    """Return whether a tensor that `TrainState.export` gave is a meta-parameter, not one of the optimizer's."""
    return not name.startswith(OPTIMIZER)


@dataclass(frozen=True)
class OuterLoop:
    """Settings of meta-training.

    Attributes:
        num_outer_steps: meta-iterations.
        lr: outer learning rate, beta.
        optimizer: "adam" or "sgd".
        schedule: "constant", or "cosine" from lr to lr_min over all meta-iterations.
        lr_min: outer learning rate at the end of the cosine schedule.
        weight_decay: share of theta by which lr moves it towards zero in each update; xi, whose identity is not at
            zero, is left alone.
        clip_norm: the meta-gradient is scaled down to this norm; None for no clipping.
        validate_every: meta-iterations between validations; None for none.
        patience: validations without a new best before training stops early; None for never.
        validation_metric: "accuracy" or "loss", what makes a validation the best; for regression always the loss.
        seed: of the training tasks; only named in errors.
    """

    num_outer_steps: int
    lr: float
    optimizer: str = "adam"
    schedule: str = "constant"
    lr_min: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    validate_every: int | None = None
    patience: int | None = None
    validation_metric: str = "accuracy"
    seed: int = 0

    def lr_at(self, iteration: int) -> float:
        """Return the outer learning rate of meta-iteration `iteration`, counted from 0."""
        if self.schedule == "cosine":
            share = 0.5 * (1.0 + math.cos(math.pi * iteration / self.num_outer_steps))
            return self.lr_min + (self.lr - self.lr_min) * share
        return self.lr


@dataclass
class TrainState:
    """What training carries from one meta-iteration to the next.

    Attributes:
        params: the meta-parameters by flat name; updated in place by the optimizer.
        optimizer: over `params`.
        iteration: meta-iterations done.
        best_score: best meta-validation so far (accuracy, or minus the loss); None before the first.
        best_iteration: where it was reached.
        num_without_best: validations since.
        last_validated: meta-iterations done at the last validation.
        is_stopped: whether training stopped early.
        is_whole: false while an update is under way, which an error or a signal may end in its middle.
    """

    params: Params
    optimizer: torch.optim.Optimizer
    iteration: int = 0
    best_score: float | None = None
    best_iteration: int = 0
    num_without_best: int = 0
    last_validated: int = 0
    is_stopped: bool = False
    is_whole: bool = True
    _names: list[str] = field(default_factory=list)

    @property
    def meta_params(self) -> MetaParams:
        """Return the meta-parameters as they are now."""
        return MetaParams.from_flat(self.params)

    def export(self) -> tuple[dict[str, Tensor], dict[str, Primitive]]:
        """Return the state as (tensors by name, primitives), copies that later steps do not change."""
        tensors = {name: value.detach().clone() for name, value in self.params.items()}
        for index, slot in self.optimizer.state_dict()["state"].items():
            for key, value in slot.items():
                if isinstance(value, Tensor):
                    tensors[f"{OPTIMIZER}{key}/{self._names[index]}"] = value.detach().clone()
        return tensors, {name: getattr(self, name) for name in PRIMITIVES}


def new_state(meta_params: MetaParams, outer: OuterLoop) -> TrainState:
    """Return the state before the first meta-iteration; the tensors of `meta_params` are copied."""
    params = {name: value.detach().clone() for name, value in meta_params.flat().items()}
    if outer.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(list(params.values()), lr=outer.lr)
    else:
        optimizer = torch.optim.Adam(list(params.values()), lr=outer.lr)
    return TrainState(params, optimizer, _names=list(params))


def restore_state(
    meta_params: MetaParams, outer: OuterLoop, tensors: Mapping[str, Tensor], primitives: Mapping[str, Primitive]
) -> TrainState:
    """Return the state that `TrainState.export` gave; `meta_params` says the names, devices and dtypes.

    Raises:
        KeyError: a tensor or primitive is missing; ValueError: one has another shape or is of another kind.
    """
    state = new_state(meta_params, outer)
    for name, value in state.params.items():
        value.copy_(_of_shape(name, tensors[name], value))
    if slots := _slots(state, tensors):
        state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": slots})
    for name in PRIMITIVES:
        setattr(state, name, _checked(name, primitives[name]))
    return state


def _slots(state: TrainState, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Return what the optimizer holds of each parameter, by its number; all have the same or none has any."""
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if not is_meta_parameter(key):
            _, slot, name = key.split("/", 2)
            if name not in state.params:
                raise ValueError(f"{key}: expected a parameter of the model, got {name!r}")
            found = value if value.dim() == 0 else _of_shape(key, value, state.params[name])
            slots.setdefault(state._names.index(name), {})[slot] = found.clone()
    wanted = set().union(*slots.values())
    for index, name in enumerate(state._names):
        for slot in sorted(wanted - slots.get(index, {}).keys()):
            raise KeyError(f"{OPTIMIZER}{slot}/{name}")
    return slots


def _of_shape(name: str, found: Tensor, wanted: Tensor) -> Tensor:
    """Return a tensor of a checkpoint; ValueError where its shape is not the one wanted."""
    if found.shape != wanted.shape:
        raise ValueError(f"{name}: expected shape {list(wanted.shape)}, got {list(found.shape)}")
    return found


def _checked(name: str, value: Primitive) -> Primitive:
    """Return a primitive of a checkpoint; ValueError where it cannot be one of a state."""
    if name == "is_stopped":
        is_right, expected = isinstance(value, bool), "true or false"
    elif name == "best_score":
        is_right, expected = value is None or isinstance(value, int | float), "a number or null"
    else:
        is_right, expected = isinstance(value, int) and not isinstance(value, bool) and value >= 0, "an integer >= 0"
    if not is_right:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return value
