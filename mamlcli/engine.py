"""The outer loop: a generator of typed step records. It never prints, parses, or knows a path.

The caller decides what to show, log and save; at every record the state is whole and can be exported, and a
training that continues from an exported state gives the same numbers as one that was never cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mamlcli.errors import NonFiniteError
from mamlcli.estimators import MetaParams
from mamlcli.execution import MetaGradient
from mamlcli.models import Params


@dataclass(frozen=True)
class OuterLoop:
    """Settings of meta-training.

    Attributes:
        num_outer_steps: meta-iterations.
        lr: outer learning rate, beta.
        optimizer: "adam" or "sgd".
        schedule: "constant", or "cosine" from lr to zero over all meta-iterations.
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
    clip_norm: float | None = None
    validate_every: int | None = None
    patience: int | None = None
    validation_metric: str = "accuracy"
    seed: int = 0

    def lr_at(self, iteration: int) -> float:
        """Return the outer learning rate of meta-iteration `iteration`, counted from 0."""
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1.0 + math.cos(math.pi * iteration / self.num_outer_steps))
        return self.lr


@dataclass(frozen=True)
class StepRecord:
    """One meta-iteration.

    Attributes:
        iteration: meta-iterations done, this one included.
        outer_loss: mean over the meta-batch of L_Q(phi_K), at the meta-parameters before the update.
        accuracy: mean over the meta-batch on query sets at phi_K, in [0, 1]; None for regression.
        grad_norm: of the averaged meta-gradient, before clipping.
        lr: outer learning rate used.
    """

    iteration: int
    outer_loss: float
    accuracy: float | None
    grad_norm: float
    lr: float


@dataclass(frozen=True)
class ValidationRecord:
    """One meta-validation.

    Attributes:
        iteration: meta-iterations done.
        loss, accuracy: means over the validation tasks at phi_K; accuracy None for regression.
        is_best: whether it is the best so far, by `OuterLoop.validation_metric`.
    """

    iteration: int
    loss: float
    accuracy: float | None
    is_best: bool


@dataclass(frozen=True)
class StopRecord:
    """Training ended before its last meta-iteration: no new best for `patience` validations."""

    iteration: int
    patience: int


Record = StepRecord | ValidationRecord | StopRecord
Validate = Callable[[MetaParams], tuple[float, float | None]]


@dataclass
class TrainState:
    """All that training carries from one meta-iteration to the next.

    Attributes:
        params: the meta-parameters by flat name; updated in place by the optimizer.
        optimizer: over `params`.
        iteration: meta-iterations done.
        best_score: best meta-validation so far (accuracy, or minus the loss); None before the first.
        best_iteration: where it was reached.
        num_without_best: validations since.
        last_validated: meta-iterations done at the last validation.
        is_stopped: whether training stopped early.
    """

    params: Params
    optimizer: torch.optim.Optimizer
    iteration: int = 0
    best_score: float | None = None
    best_iteration: int = 0
    num_without_best: int = 0
    last_validated: int = 0
    is_stopped: bool = False
    _names: list[str] = field(default_factory=list)

    @property
    def meta(self) -> MetaParams:
        return MetaParams.from_flat(self.params)

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state as (tensors by name, primitives), copies that later steps do not change."""
        tensors = {name: value.detach().clone() for name, value in self.params.items()}
        for index, slot in self.optimizer.state_dict()["state"].items():
            for key, value in slot.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{key}/{self._names[index]}"] = value.detach().clone()
        primitives = {
            "iteration": self.iteration,
            "best_score": self.best_score,
            "best_iteration": self.best_iteration,
            "num_without_best": self.num_without_best,
            "last_validated": self.last_validated,
            "is_stopped": self.is_stopped,
        }
        return tensors, primitives


def new_state(meta: MetaParams, outer: OuterLoop) -> TrainState:
    """Return the state before the first meta-iteration; the tensors of `meta` are copied."""
    params = {name: value.detach().clone() for name, value in meta.flat().items()}
    if outer.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(list(params.values()), lr=outer.lr)
    else:
        optimizer = torch.optim.Adam(list(params.values()), lr=outer.lr)
    return TrainState(params, optimizer, _names=list(params))


def restore_state(
    meta: MetaParams, outer: OuterLoop, tensors: Mapping[str, Tensor], primitives: Mapping[str, Any]
) -> TrainState:
    """Return the state that `TrainState.export` gave; `meta` says the names, devices and dtypes.

    Raises:
        KeyError: a tensor is missing; ValueError: one has another shape.
    """
    state = new_state(meta, outer)
    for name, value in state.params.items():
        if tensors[name].shape != value.shape:
            raise ValueError(f"{name}: expected shape {list(value.shape)}, got {list(tensors[name].shape)}")
        value.copy_(tensors[name])
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, slot, name = key.split("/", 2)
            slots.setdefault(state._names.index(name), {})[slot] = value.clone()
    if slots:
        state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": slots})
    for key in (
        "iteration",
        "best_score",
        "best_iteration",
        "num_without_best",
        "last_validated",
        "is_stopped",
    ):
        setattr(state, key, primitives[key])
    return state


def train(
    state: TrainState,
    gradient: Callable[[MetaParams, int], MetaGradient],
    validate: Validate | None,
    *,
    outer: OuterLoop,
) -> Iterator[Record]:
    """Meta-train from `state.iteration` to the end, yielding a record after every update and validation.

    theta <- theta - beta * optimizer(mean over tasks of grad_theta L_Q(phi_K)), and xi likewise.

    Args:
        state: changed in place; whole at every yield.
        gradient: (meta-parameters, iteration from 0) -> meta-gradient on that iteration's tasks.
        validate: meta-parameters -> (loss, accuracy or None) on the meta-validation tasks; None for none.
        outer: settings.

    Yields:
        Records, in order.

    Raises:
        NonFiniteError: a loss or gradient is infinite or not a number; the state is that before the update.

    Source: Finn et al. 2017, arXiv 1703.03400, algorithm 1; Adam as outer optimizer as in section 5.2's code and in
    Arnold et al. 2021.
    """
    while not state.is_stopped:
        # Asked before each step, not after it: a state saved between a step and its validation goes on with the
        # validation.
        if validate is not None and _validation_is_due(state, outer):
            record = _validation(state, outer.validation_metric, *validate(state.meta))
            is_out = outer.patience is not None and state.num_without_best >= outer.patience
            state.is_stopped = is_out and state.iteration < outer.num_outer_steps
            yield record
        elif state.iteration < outer.num_outer_steps:
            yield _step(state, gradient, outer)
        else:
            return
    yield StopRecord(state.iteration, state.num_without_best)


def _validation_is_due(state: TrainState, outer: OuterLoop) -> bool:
    if outer.validate_every is None or state.iteration == state.last_validated:
        return False
    return state.iteration % outer.validate_every == 0 or state.iteration == outer.num_outer_steps


def _step(state: TrainState, gradient: Callable[[MetaParams, int], MetaGradient], outer: OuterLoop) -> StepRecord:
    result = gradient(state.meta, state.iteration)
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in result.gradients.values()]))
    # One transfer for all that is read each iteration: on CUDA every .item() would wait for the device.
    summary = torch.stack([result.outer_loss.mean(), result.accuracy.mean(), norm]).tolist()
    if not (math.isfinite(summary[0]) and math.isfinite(summary[2])):
        raise _non_finite(result, state.iteration, outer.seed)
    scale = 1.0
    if outer.clip_norm is not None and summary[2] > outer.clip_norm:
        scale = outer.clip_norm / summary[2]
    lr = outer.lr_at(state.iteration)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    for name, parameter in state.params.items():
        parameter.grad = result.gradients[name] * scale
    state.optimizer.step()
    state.iteration += 1
    return StepRecord(state.iteration, summary[0], summary[1] if math.isfinite(summary[1]) else None, summary[2], lr)


def _validation(state: TrainState, metric: str, loss: float, accuracy: float | None) -> ValidationRecord:
    state.last_validated = state.iteration
    score = accuracy if metric == "accuracy" and accuracy is not None else -loss
    is_best = math.isfinite(score) and (state.best_score is None or score > state.best_score)
    if is_best:
        state.best_score, state.best_iteration, state.num_without_best = score, state.iteration, 0
    else:
        state.num_without_best += 1
    return ValidationRecord(state.iteration, loss, accuracy, is_best)


def _non_finite(result: MetaGradient, iteration: int, seed: int) -> NonFiniteError:
    """Return an error that names the iteration, the task and the parameter."""
    tasks = (~torch.isfinite(result.outer_loss)).nonzero().flatten().tolist()
    names = [name for name, value in result.gradients.items() if not bool(torch.isfinite(value).all())]
    what = "finite losses"
    if tasks:
        key = f"seed {seed}, split train, iteration {iteration}, task {tasks[0]}"
        what = f"an outer loss of {result.outer_loss[tasks[0]].item()} on the task of key ({key})"
    where = f"iteration {iteration + 1}"
    if names:
        what += f", and a non-finite meta-gradient of {names[0]} ({len(names)} of {len(result.gradients)} tensors)"
    elif not tasks:
        what = "meta-gradients whose norm overflows"
    return NonFiniteError(
        where,
        expected="finite losses and meta-gradients",
        got=what,
        why="The inner loop diverged, most often because inner.lr is too high for this model and these inputs",
        next_step="Lower inner.lr or outer.lr, or set outer.clip_norm=10",
    )
