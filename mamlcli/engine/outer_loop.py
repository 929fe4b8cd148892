"""The outer loop trains the meta-parameters, validates, stops early, and yields a record of every step.

The caller decides what to show, log and save; at every record the state is whole and can be exported, and a
training that continues from an exported state gives the same numbers as one that was never cut.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from mamlcli.common.errors import NonFiniteError
from mamlcli.engine.execution import MetaGradient
from mamlcli.engine.objective import THETA, MetaParams
from mamlcli.engine.state import OuterLoop, TrainState


@dataclass(frozen=True)
class StepRecord:
    """The record of one meta-iteration.

    Attributes:
        iteration: meta-iterations done, this one included.
        outer_loss: mean over the meta-batch of the outer loss, at the meta-parameters before the update: of L_Q(phi_K),
            or of its weighted sum over the inner steps while the multi-step loss lasts.
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
    """The record of one meta-validation.

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
    """The end of training before its last meta-iteration: `patience` validations brought no new best."""

    iteration: int
    patience: int


Record = StepRecord | ValidationRecord | StopRecord


Scores = tuple[float, float | None]


# (indices of states, their meta-parameters, iteration from 0) -> the meta-gradient of each.
Gradients = Callable[[Sequence[int], Sequence[MetaParams], int], Sequence[MetaGradient]]


# Meta-parameters of some states -> (loss, accuracy or None) of each in meta-validation.
Validate = Callable[[Sequence[int], Sequence[MetaParams]], Sequence[Scores]]


def train(
    states: Mapping[int, TrainState],
    outers: Mapping[int, OuterLoop],
    gradients: Gradients,
    validate: Validate,
) -> Iterator[tuple[int, Record | NonFiniteError]]:
    """Meta-train every state from where it is to its end, yielding a record after every update and validation.

    theta <- theta - beta * optimizer(mean over tasks of grad_theta L_Q(phi_K)), and xi likewise; before it, theta
    decays as `_decay` says. States at the same iteration advance together; one that is behind advances until it meets
    the others.

    Args:
        states: by index; changed in place, each whole at every yield. One that the caller takes out of the mapping
            is trained no further.
        outers: the settings of each, by the same indices; they differ in the seed alone.
        gradients: (indices, meta-parameters of each, iteration from 0) -> meta-gradients on that iteration's tasks.
        validate: (indices, meta-parameters of each) -> (loss, accuracy or None) of each on its meta-validation tasks.

    Yields:
        (index, record), in the order of each state; at last, for a state whose loss or gradient is infinite or not a
        number, the error that says so: the state is then that before the update.

    Source: Finn et al. 2017, arXiv 1703.03400, algorithm 1; Adam as outer optimizer as in section 5.2's code and in
    Arnold et al. 2021.
    """
    update = _Update()
    running = set(states)
    while running := running & states.keys():
        iteration = min(states[index].iteration for index in running)
        batch = [index for index in sorted(running) if states[index].iteration == iteration]
        meta_params = {index: states[index].meta_params for index in batch}
        if over := [index for index in batch if is_over(states[index], outers[index])]:
            running -= set(over)
            stopped = [index for index in over if states[index].is_stopped]
            yield from [(index, StopRecord(iteration, states[index].num_without_best)) for index in stopped]
        # Asked before each step, not after it: a state saved between a step and its validation goes on with the
        # validation.
        elif due := [index for index in batch if validation_is_due(states[index], outers[index])]:
            scores = zip(due, validate(due, [meta_params[index] for index in due]), strict=True)
            yield from [(index, _validated(states[index], outers[index], *pair)) for index, pair in scores]
        else:
            meta_gradients = gradients(batch, list(meta_params.values()), iteration)
            records = update([states[index] for index in batch], meta_gradients, [outers[index] for index in batch])
            running -= {index for index, record in zip(batch, records, strict=True) if isinstance(record, Exception)}
            yield from zip(batch, records, strict=True)


def validation_is_due(state: TrainState, outer: OuterLoop) -> bool:
    """Return whether meta-validation comes before the next update, or before the end."""
    if outer.validate_every is None or state.iteration == state.last_validated:
        return False
    return state.iteration % outer.validate_every == 0 or state.iteration == outer.num_outer_steps


def is_over(state: TrainState, outer: OuterLoop) -> bool:
    """Return whether training is at its end: stopped early, or all updates and validations are done."""
    is_last = state.iteration >= outer.num_outer_steps
    return state.is_stopped or (is_last and not validation_is_due(state, outer))


def _validated(state: TrainState, outer: OuterLoop, loss: float, accuracy: float | None) -> ValidationRecord:
    """Note a validation in the state, and whether training stops after it."""
    state.is_whole = False
    state.last_validated = state.iteration
    score = accuracy if outer.validation_metric == "accuracy" and accuracy is not None else -loss
    is_best = math.isfinite(score) and (state.best_score is None or score > state.best_score)
    if is_best:
        state.best_score, state.best_iteration, state.num_without_best = score, state.iteration, 0
    else:
        state.num_without_best += 1
    has_no_patience = outer.patience is not None and state.num_without_best >= outer.patience
    state.is_stopped = has_no_patience and state.iteration < outer.num_outer_steps
    state.is_whole = True
    return ValidationRecord(state.iteration, loss, accuracy, is_best)


class _Update:
    """The update of several states at the same iteration: one call of the optimizer for the parameters of all.

    It remembers for which states it has set the optimizer up.
    """

    def __init__(self) -> None:
        self._states: list[TrainState] = []
        self._optimizer: torch.optim.Optimizer | None = None

    def __call__(
        self, states: Sequence[TrainState], gradients: Sequence[MetaGradient], outers: Sequence[OuterLoop]
    ) -> list[StepRecord | NonFiniteError]:
        """Update every state by its meta-gradient.

        Returns:
            For each its record; or the error of a loss or gradient that is not finite, and then the state is left
            as it was.
        """
        records: list[StepRecord | NonFiniteError] = []
        moving = []
        for state, gradient, outer, summary in zip(states, gradients, outers, _summaries(gradients), strict=True):
            try:
                records.append(_set_gradients(state, gradient, outer, summary))
                moving.append(state)
            except NonFiniteError as error:
                records.append(error)
        for state in moving:
            state.is_whole = False
        if moving:
            _decay(moving, outers[0])
        self._move(moving)
        for state in moving:
            state.iteration += 1
            state.is_whole = True
        return records

    def _move(self, states: list[TrainState]) -> None:
        is_started = all(state.optimizer.state for state in states)
        if len(states) < 2 or not is_started or not isinstance(states[0].optimizer, torch.optim.Adam):
            # Adam makes its moments in its first step; SGD has none, and costs next to nothing.
            for state in states:
                state.optimizer.step()
            return
        is_same = len(states) == len(self._states) and all(map(operator.is_, states, self._states))
        if not is_same or self._optimizer is None:
            self._states, self._optimizer = states, _joined_adam(states)
        self._optimizer.param_groups[0]["lr"] = states[0].optimizer.param_groups[0]["lr"]
        self._optimizer.step()


def _summaries(results: Sequence[MetaGradient]) -> list[list[float]]:
    """Return (mean outer loss, mean accuracy, norm of the meta-gradient) of each.

    One transfer for all that is read each iteration: on CUDA every .item() would wait for the device.
    """
    if len(results) == 1:  # a norm of norms; the one below needs a copy of the gradients, and rounds differently
        [only] = results
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in only.gradients.values()]))
        return [torch.stack([only.outer_loss.mean(), only.accuracy.mean(), norm]).tolist()]
    means = [
        torch.stack([result.outer_loss for result in results]).mean(1),
        torch.stack([result.accuracy for result in results]).mean(1),
    ]
    rows = torch.stack([torch.cat([g.flatten() for g in result.gradients.values()]) for result in results])
    summaries: list[list[float]] = torch.stack([*means, torch.linalg.vector_norm(rows, dim=1)], dim=1).tolist()
    return summaries


def _set_gradients(state: TrainState, result: MetaGradient, outer: OuterLoop, summary: list[float]) -> StepRecord:
    """Hand the gradient and the learning rate to the optimizer; return the record of the step that it takes next."""
    loss, accuracy, norm = summary
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise _non_finite(result, state.iteration, outer.seed)
    scale = 1.0
    if outer.clip_norm is not None and norm > outer.clip_norm:
        scale = outer.clip_norm / norm
    lr = outer.lr_at(state.iteration)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    for name, parameter in state.params.items():
        parameter.grad = result.gradients[name] if scale == 1.0 else result.gradients[name] * scale
    return StepRecord(state.iteration + 1, loss, accuracy if math.isfinite(accuracy) else None, norm, lr)


def _decay(states: Sequence[TrainState], outer: OuterLoop) -> None:
    """Move theta of every state towards zero: theta <- theta - beta * weight_decay * theta, and leave xi.

    Source: Loshchilov and Hutter 2019, Decoupled weight decay regularization, arXiv 1711.05101, algorithm 2, line 12.
    Differs from the source: times the learning rate, as in torch's AdamW, where the source has the schedule's
        multiplier alone.
    """
    if outer.weight_decay:
        kept = 1.0 - outer.lr_at(states[0].iteration) * outer.weight_decay
        for state in states:
            for name, value in state.params.items():
                if name.startswith(THETA):
                    value.mul_(kept)


def _joined_adam(states: Sequence[TrainState]) -> torch.optim.Optimizer:
    """Return an Adam over the parameters of all states, which shares the moments with the optimizer of each."""
    group = states[0].optimizer.param_groups[0]
    parameters = [value for state in states for value in state.params.values()]
    joined = torch.optim.Adam(parameters, lr=group["lr"], betas=group["betas"], eps=group["eps"], fused=True)
    for state in states:
        for value in state.params.values():
            joined.state[value] = state.optimizer.state[value]
    return joined


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
