"""A network is trained on each task alone, on many examples and without meta-learning.

This is the capacity arm of a study. It answers "even if the tasks need only a shallow model": a network that gets to
the floor here has the capacity, so what it lacks after a few inner steps is the ability to adapt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import Network, Params, apply_network
from mamlcli.engine.objective import accuracy, example_loss
from mamlcli.tasks.episodes import ReferenceScores, TaskDistribution, sample_tasks

Array = NDArray[np.float64]

# The rule of convergence: see `capacity`.
WINDOW = 100
RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-10
LR_FACTORS = (1.0, 0.1, 0.01)


@dataclass(frozen=True)
class Capacity:
    """A capacity is what a network reaches on each task when it is trained on it alone.

    Attributes:
        loss, accuracy: [num_tasks] on query sets, at the end; accuracy is NaN for regression.
        support_loss: [num_tasks], the training loss at the end.
        is_converged: [num_tasks], whether the rule was met before `max_steps`.
        num_steps: gradient steps taken.
        references: the distribution's floors and baselines on the same tasks, by name.
    """

    loss: Array
    accuracy: Array
    support_loss: Array
    is_converged: NDArray[np.bool_]
    num_steps: int
    references: dict[str, ReferenceScores]


def capacity(
    network: Network,
    distribution: TaskDistribution,
    *,
    num_tasks: int = 20,
    split: str = "test",
    seed: int = 0,
    init: str = "release",
    init_seed: int = 0,
    lr: float = 0.01,
    max_steps: int = 20_000,
    stop_loss: float = 0.0,
) -> Capacity:
    """Train a network on the support set of each task by itself, from its initialisation, to convergence.

    min over theta_T of L_S(theta_T) for every task T, by Adam on the whole support set. In windows of 100 steps, a
    task is at rest when the mean loss of a window is not below that of the window before by more than 1e-4 of it, nor
    by more than 1e-10 of the first window's. When all are at rest the learning rate falls to a tenth; a task has
    converged when it is at rest after the second fall (so a hundredth of `lr`).

    Tasks are trained at once, each with parameters and Adam moments of its own; they share the number of steps alone.

    Args:
        network: the architecture.
        distribution: with many shots, as `dataclasses.replace(distribution, shots=1000, queries=1000)` gives:
            synthetic tasks of the same key are the same tasks whatever their shots. Its dtype is that of training;
            float64 is worth it for tiny models.
        num_tasks: tasks, those of (seed, split, 0, 0 ... num_tasks - 1), the first ones `evaluate` scores.
        split: names the stream of tasks.
        seed: `evaluation.seed`.
        init: the kind of initialisation, as in `initial_params`.
        init_seed: its seed; the same for every task.
        lr: of Adam, at the start.
        max_steps: where training ends in any case.
        stop_loss: once every task's support loss is below this, all have converged.

    Source: ours, to check the paper's "even where a task needs only a shallow model" (Arnold et al. 2021, arXiv
        1910.13603); the optimizer, Kingma and Ba 2015 (1412.6980); the rule of convergence is our choice.
    """
    episode = sample_tasks(distribution, seed=seed, split=split, iteration=0, indices=range(num_tasks))
    x, y = episode.support_x, episode.support_y
    start = initial_params(network, init=init, seed=init_seed, dtype=x.dtype, device=x.device)
    params = {name: value.expand(num_tasks, *value.shape).clone() for name, value in start.items()}

    def losses(values: Params) -> Tensor:
        return vmap(example_loss)(_outputs(network, values, x), y)

    is_converged, num_steps = _train_apart(params, losses, lr, max_steps, stop_loss)
    with torch.no_grad():
        query = _outputs(network, params, episode.query_x)
        loss, right = vmap(example_loss)(query, episode.query_y), vmap(accuracy)(query, episode.query_y)
        scores = (loss, right, losses(params))
    references = distribution.references(episode)
    loss_np, accuracy_np, support_np = (value.cpu().double().numpy() for value in scores)
    return Capacity(loss_np, accuracy_np, support_np, is_converged.cpu().numpy(), num_steps, references)


def _outputs(network: Network, params: Params, inputs: Tensor) -> Tensor:
    """Return the outputs of each task's own network on its inputs, [num_tasks, num_examples, num_outputs]."""
    return vmap(lambda of_task, task_x: apply_network(network, of_task, task_x))(params, inputs)


def _train_apart(
    params: Params, losses: Callable[[Params], Tensor], lr: float, max_steps: int, stop_loss: float
) -> tuple[Tensor, int]:
    """Minimise each task's loss over its slice of `params`, in place; return who converged, and the steps.

    The sum of the losses is differentiated, so each slice has its own task's gradient; Adam works entry by entry.
    """
    leaves = {name: value.requires_grad_(True) for name, value in params.items()}
    optimizer = torch.optim.Adam(list(leaves.values()), lr=lr)
    first = before = None
    stage = num_steps = 0
    is_at_rest = torch.zeros(len(next(iter(params.values()))), dtype=torch.bool)
    while num_steps + WINDOW <= max_steps and stage < len(LR_FACTORS):
        for group in optimizer.param_groups:
            group["lr"] = lr * LR_FACTORS[stage]
        now = _window(optimizer, leaves, losses)
        num_steps += WINDOW
        first = now if first is None else first
        is_at_rest = torch.zeros_like(now, dtype=torch.bool)
        if before is not None:
            is_at_rest = before - now <= RELATIVE_TOLERANCE * before + ABSOLUTE_TOLERANCE * first
        before = now
        if bool((now < stop_loss).all()):
            is_at_rest, stage = torch.ones_like(is_at_rest), len(LR_FACTORS)
            break
        if bool(is_at_rest.all()):
            stage, before = stage + 1, None
    for value in params.values():
        value.requires_grad_(False)
    # At rest before the last rate, or just brought to it: not converged yet.
    is_last = stage == len(LR_FACTORS) or (stage == len(LR_FACTORS) - 1 and before is not None)
    return is_at_rest & is_last, num_steps


def _window(optimizer: torch.optim.Optimizer, leaves: Params, losses: Callable[[Params], Tensor]) -> Tensor:
    """Take `WINDOW` steps; return the mean loss of each task over them."""
    total: Tensor | float = 0.0
    for _ in range(WINDOW):
        optimizer.zero_grad()
        of_tasks = losses(leaves)
        torch.autograd.backward(of_tasks.sum())
        optimizer.step()
        total = total + of_tasks.detach()
    assert isinstance(total, Tensor)
    return total / WINDOW
