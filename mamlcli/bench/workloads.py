"""This module makes what is timed beside a single meta-gradient: a whole meta-iteration, and the scoring of many tasks.

Both draw their tasks while they are timed, from images of noise in memory. The peers draw as one would by hand: one
task after the other, class by class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from mamlcli.bench.cases import Problem
from mamlcli.bench.jax_peer import jax_gradients, jax_scores
from mamlcli.bench.peer_problem import (
    GradientsOfTasks,
    MetaGradientFunction,
    Params,
    PeerProblem,
    ScoresOfTasks,
    Task,
)
from mamlcli.bench.peers import JAX, PLAIN_LOOP, plain_gradients, plain_scores
from mamlcli.engine.evaluation import evaluate
from mamlcli.engine.execution import Execution, trajectories
from mamlcli.engine.outer_loop import StepRecord, train
from mamlcli.engine.state import new_state
from mamlcli.tasks.fewshot import FewShotTasks
from mamlcli.training.functions import training_functions

# The characters of Omniglot's training split, and the drawings of each.
_NUM_CLASSES, _IMAGES_OF_CLASS = 1028, 20

# Tasks that a peer scores at a time: as many as fit into a cache's worth of memory, and few shapes to compile for.
_SCORED_AT_ONCE = 20

# The peers that are measured in whole, by name: the meta-gradient of tasks, and the scores of tasks.
_GRADIENTS: dict[str, Callable[[PeerProblem, Params, Params], GradientsOfTasks]] = {
    PLAIN_LOOP: plain_gradients,
    JAX: jax_gradients,
}
_SCORES: dict[str, Callable[[PeerProblem], ScoresOfTasks]] = {PLAIN_LOOP: plain_scores, JAX: jax_scores}

WHOLE_PEERS = tuple(_GRADIENTS)


def image_tasks(problem: Problem) -> FewShotTasks:
    """Return tasks of a case's sizes over images of noise, as many as Omniglot has."""
    case, tasks = problem.case, problem.experiment.recipe.tasks
    shape = (_NUM_CLASSES * _IMAGES_OF_CLASS, *case.input_shape)
    noise = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    members = torch.arange(len(noise)).view(_NUM_CLASSES, _IMAGES_OF_CLASS)
    return FewShotTasks(
        noise.to(problem.experiment.device),
        tuple(members),
        case.ways,
        case.shots,
        case.queries,
        rotations=bool(getattr(tasks, "rotations", False)),
        dtype=problem.experiment.dtype,
    )


# Ours -------------------------------------------------------------------------------------------------------------


def our_iteration(problem: Problem, how: Execution) -> MetaGradientFunction:
    """Return what does one meta-iteration after another, as a run does between its checkpoints."""
    experiment = dataclasses.replace(problem.experiment, training=image_tasks(problem))
    outer = dataclasses.replace(experiment.outer_loop(), num_outer_steps=10**9, validate_every=None)
    state = new_state(problem.meta, outer)
    records = train({0: state}, {0: outer}, *training_functions([experiment], how))

    def compute() -> Params:
        _, record = next(records)
        assert isinstance(record, StepRecord), record
        return state.params

    return compute


def our_scores(problem: Problem, how: Execution) -> Params:
    """Return the scores of the problem's own tasks at every inner step."""
    return {"scores": trajectories(problem.experiment.scoring_objective(), [problem.meta], problem.episode, how)[0]}


def our_evaluation(problem: Problem, how: Execution, num_tasks: int) -> MetaGradientFunction:
    """Return what draws and scores so many tasks, without the floors and baselines that `adapt` shows beside them."""
    objective, tasks = problem.experiment.scoring_objective(), image_tasks(problem)

    def compute() -> Params:
        [found] = evaluate(
            objective,
            [problem.meta],
            tasks,
            stream="test",
            seed=0,
            num_tasks=num_tasks,
            execution=how,
            with_references=False,
        )
        return {"scores": torch.from_numpy(found.scores)}

    return compute


# Peers ------------------------------------------------------------------------------------------------------------


def drawn_by_hand(tasks: FewShotTasks, generator: torch.Generator, num_tasks: int) -> list[Task]:
    """Draw tasks one after the other, class by class."""
    labels = torch.arange(tasks.ways, device=tasks.images.device)
    support_y, query_y = labels.repeat_interleave(tasks.shots), labels.repeat_interleave(tasks.queries)
    turns_of_class = 4 if tasks.rotations else 1

    def images_of_class(index: int) -> Tensor:
        members = tasks.class_images[index // turns_of_class]
        rows = members[torch.randperm(len(members), generator=generator)[: tasks.shots + tasks.queries]]
        images = tasks.images[rows.to(tasks.images.device)].to(tasks.dtype) / 255
        return torch.rot90(images, index % turns_of_class, (2, 3)) if tasks.rotations else images

    drawn = []
    for _ in range(num_tasks):
        chosen = torch.randperm(len(tasks.class_images) * turns_of_class, generator=generator)[: tasks.ways]
        images = [images_of_class(index) for index in chosen.tolist()]
        support_x = torch.cat([of_class[: tasks.shots] for of_class in images])
        query_x = torch.cat([of_class[tasks.shots :] for of_class in images])
        drawn.append((support_x, support_y, query_x, query_y))
    return drawn


def peer_iteration(name: str, peer: PeerProblem, problem: Problem) -> MetaGradientFunction:
    """Return what draws a meta-batch by hand, takes a peer's meta-gradient and a step of torch's Adam."""
    tasks, generator = image_tasks(problem), torch.Generator().manual_seed(0)
    theta, xi = peer.leaves()
    leaves = [*theta.values(), *xi.values()]
    gradients = _GRADIENTS[name](peer, theta, xi)
    optimizer = torch.optim.Adam(leaves, lr=problem.experiment.recipe.outer.lr)

    def compute() -> Params:
        found = gradients(drawn_by_hand(tasks, generator, problem.case.tasks))
        for leaf, gradient in zip(leaves, found, strict=True):
            leaf.grad = gradient
        optimizer.step()
        return theta

    return compute


def peer_scores(name: str, peer: PeerProblem) -> Params:
    """Return a peer's scores of the problem's own tasks at every inner step."""
    return {"scores": _SCORES[name](peer)(peer.tasks())}


def peer_evaluation(name: str, peer: PeerProblem, problem: Problem, num_tasks: int) -> MetaGradientFunction:
    """Return what draws so many tasks by hand and scores them by a peer, some at a time."""
    tasks, generator, scores = image_tasks(problem), torch.Generator().manual_seed(0), _SCORES[name](peer)

    def compute() -> Params:
        parts = [
            scores(drawn_by_hand(tasks, generator, min(_SCORED_AT_ONCE, num_tasks - start)))
            for start in range(0, num_tasks, _SCORED_AT_ONCE)
        ]
        return {"scores": torch.cat(parts)}

    return compute
