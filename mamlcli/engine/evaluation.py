"""Score meta-parameters by the meta-test protocol: at every inner step, on tasks that are the same for all runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlcli.common.statistics import Estimate, estimate
from mamlcli.engine.execution import Execution, TaskFunction, chunks, run_chunk, trajectories
from mamlcli.engine.linear_probe import probe_references
from mamlcli.engine.networks import Params
from mamlcli.engine.objective import TRAJECTORY_COLUMNS, MetaObjective, MetaParams, adapt_to, task_problem
from mamlcli.tasks.episodes import Episode, ReferenceScores, TaskDistribution, sample_tasks

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """The scores of a floor or baseline on each task.

    Attributes:
        loss, accuracy: [num_tasks] float64 on query sets; None where there is none.
        doubtful: [num_tasks], 1 where the scores come from sampling that did not converge; None where they are exact.
    """

    loss: Array | None
    accuracy: Array | None
    doubtful: Array | None = None


@dataclass(frozen=True)
class Evaluation:
    """The scores of one set of meta-parameters on many tasks.

    Attributes:
        scores: [num_tasks, num_inner_steps + 1, 4] float64, columns as `TRAJECTORY_COLUMNS`; step 0 is before
            adaptation.
        references: scores of floors and baselines on the same tasks, by name. For images, one of them is the linear
            probe on the features that these meta-parameters give.
        is_classification: whether the accuracy columns mean something.
        chance_accuracy: what guessing would score; None for regression.
    """

    scores: Array
    references: dict[str, Reference]
    is_classification: bool
    chance_accuracy: float | None

    @property
    def num_inner_steps(self) -> int:
        """Return the number of inner steps after which tasks are scored."""
        return int(self.scores.shape[1]) - 1

    def column(self, name: str, step: int) -> Array:
        """Return one column of `TRAJECTORY_COLUMNS` at one inner step, [num_tasks]."""
        return self.scores[:, step, TRAJECTORY_COLUMNS.index(name)]

    def estimate(self, name: str, step: int) -> Estimate:
        """Return mean and 95 % interval over tasks of one column at one inner step."""
        return estimate(self.column(name, step))


# Tasks whose data is held at once: few enough to take little memory, enough to draw and compare them together.
_DRAWN_AT_ONCE = 16


def evaluate(
    objective: MetaObjective,
    meta_params: Sequence[MetaParams],
    distribution: TaskDistribution,
    *,
    stream: str,
    seed: int,
    num_tasks: int,
    execution: Execution,
    with_references: bool = True,
    with_probe: bool = True,
    share: range | None = None,
) -> list[Evaluation]:
    """Adapt every run to the same `num_tasks` tasks and score support and query sets at every inner step.

    Task i is drawn from the generator keyed by (seed, stream, 0, i). No graph is built, and memory does not grow
    with the number of tasks beyond the scores themselves.

    Args:
        objective: network and inner loop; its number of inner steps is the number scored.
        meta_params: meta-parameters to score, of one run or several.
        distribution: where tasks come from.
        stream: names the stream of tasks, by default the name of the split that `distribution` draws from.
        seed: `evaluation.seed`.
        num_tasks: tasks.
        execution: how tasks are run.
        with_references: whether to score the floors and baselines of the distribution, too, the same for all runs.
        with_probe: whether a linear probe on each run's own features is one of them.
        share: indices of the tasks to score, at least one; by default all.

    Returns:
        For each run its scores and, if asked for, those of the references.
    """
    share = range(num_tasks) if share is None else share
    shape = (len(share), objective.inner.num_inner_steps + 1, len(TRAJECTORY_COLUMNS))
    # Whole from the start: small results kept between the large blocks of each chunk would hold on to their memory.
    scores: list[Array] = [np.empty(shape, dtype=np.float64) for _ in meta_params]
    references: list[dict[str, Reference]] = [{} for _ in meta_params]
    drawn = max(execution.chunk * execution.parallel, _DRAWN_AT_ONCE)
    for start in range(0, len(share), drawn):
        indices = share[start : start + drawn]
        rows = range(start, start + len(indices))
        episode = sample_tasks(distribution, seed=seed, split=stream, iteration=0, indices=indices)
        for of_run, of_chunk in zip(scores, trajectories(objective, meta_params, episode, execution), strict=True):
            of_run[rows.start : rows.stop] = of_chunk.cpu().double().numpy()
        if with_references:
            of_tasks = distribution.references(episode)
            for of_all, meta in zip(references, meta_params, strict=True):
                probe = probe_references(objective, meta.model, episode, execution) if with_probe else {}
                _fill(of_all, {**of_tasks, **probe}, rows, share)
    is_classification, chance_accuracy = distribution.is_classification, distribution.chance_accuracy
    return [
        Evaluation(of_run, references_of_run, is_classification, chance_accuracy)
        for of_run, references_of_run in zip(scores, references, strict=True)
    ]


def _fill(references: dict[str, Reference], of_chunk: Mapping[str, ReferenceScores], rows: range, share: range) -> None:
    """Write the references' scores on a chunk of tasks to its rows; make room for those of all tasks at the first."""

    def room(values: Tensor | None) -> Array | None:
        return None if values is None else np.empty(len(share), dtype=np.float64)

    for name, scores in of_chunk.items():
        whole = references.setdefault(name, Reference(*map(room, (scores.loss, scores.accuracy, scores.doubtful))))
        for column in ("loss", "accuracy", "doubtful"):
            values, part = getattr(whole, column), getattr(scores, column)
            if values is not None and part is not None:
                values[rows.start : rows.stop] = part.cpu().double().numpy()


def join_evaluations(parts: list[Evaluation]) -> Evaluation:
    """Return the evaluation of all tasks from those of consecutive shares."""

    def joined(columns: list[Array | None]) -> Array | None:
        present = [column for column in columns if column is not None]
        return np.concatenate(present) if present else None

    references = {
        name: Reference(
            joined([part.references[name].loss for part in parts]),
            joined([part.references[name].accuracy for part in parts]),
            joined([part.references[name].doubtful for part in parts]),
        )
        for name in parts[0].references
    }
    return replace(parts[0], scores=np.concatenate([part.scores for part in parts]), references=references)


@dataclass(frozen=True)
class TaskStream:
    """Tasks that are drawn while one iterates over them, the same at each iteration.

    Attributes:
        distribution: where they come from.
        seed, split: of their generators, which are keyed by (seed, split, 0, index) as in `evaluation`.
        num_tasks: tasks in all.
        chunk: tasks drawn at once.
    """

    distribution: TaskDistribution
    seed: int
    split: str
    num_tasks: int
    chunk: int

    def __iter__(self) -> Iterator[Episode]:
        for start in range(0, self.num_tasks, self.chunk):
            indices = range(start, min(start + self.chunk, self.num_tasks))
            yield sample_tasks(self.distribution, seed=self.seed, split=self.split, iteration=0, indices=indices)


def map_tasks(
    function: TaskFunction[Tensor], meta_params: MetaParams, episodes: Iterable[Episode], execution: Execution
) -> Array:
    """Run a per-task function over all tasks, without any graph.

    Args:
        function: (model, xi, support_x, support_y, query_x, query_y) of one task -> tensor.
        meta_params: the meta-parameters.
        episodes: the tasks.
        execution: how they are run.

    Returns:
        [num_tasks, ...] float64.
    """
    parts = []
    with torch.no_grad():
        for episode in episodes:
            for chunk in chunks(episode, execution):
                values = run_chunk(function, meta_params.model, meta_params.transform, chunk, execution)
                parts.append(values.cpu().double().numpy())
    return np.concatenate(parts)


def adapted_params(
    objective: MetaObjective, model: Params, xi: Params, support_x: Tensor, support_y: Tensor, query_x: Tensor
) -> Params:
    """Adapt to one task, and return all parameters of the network: phi_0 with the fast weights phi_K put in."""
    model = objective.start(model)
    problem = task_problem(objective.network, model, objective.inner, support_x, query_x)
    adaptation = adapt_to(problem, support_y, model, xi, objective.inner)
    return {**model, **adaptation.fast_weights}
