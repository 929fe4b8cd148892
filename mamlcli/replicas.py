"""Several runs of one recipe with other seeds, trained at once: their tasks are computed as one tensor.

Where a model is tiny, calling the operations costs more than the operations, and eight times the tasks take hardly
more calls. Every replica stays a run of its own: same tasks, same results up to rounding, own directory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from mamlcli.build import Experiment
from mamlcli.engine import StepsTogether
from mamlcli.environment import interruption_flag
from mamlcli.evaluation import Evaluation
from mamlcli.execution import MetaGradient, meta_gradients
from mamlcli.rundir import RunDirectory
from mamlcli.session import (
    Progress,
    Request,
    RunResult,
    evaluation_tasks,
    score_replicas,
    stages_of_run,
    validation_scores,
    validation_tasks,
)
from mamlcli.tasks.base import task_generator


@dataclass(frozen=True)
class Replica:
    """One run of several that are trained together.

    Attributes:
        run: its directory.
        experiment: as all others' but for the seed.
        argv: the command, for the manifest.
        progress: what to call on the way.
    """

    run: RunDirectory
    experiment: Experiment
    argv: list[str]
    progress: Progress | None = None


def train_replicas(
    replicas: Sequence[Replica], *, is_stopped: Callable[[], bool] = bool
) -> list[RunResult | BaseException]:
    """Do `train_run` for several runs of one recipe with other seeds, from wherever each of them is.

    Runs at the same iteration advance together; one that is behind advances until it meets the others. One that
    diverges, stops early or fails leaves the others as they are. An interruption saves all.

    Args:
        replicas: their recipes differ in `seed` alone.
        is_stopped: asked once for each answer whether to stop, as are SIGINT and SIGTERM.

    Returns:
        For each its result, or what `train_run` would have raised.
    """
    with interruption_flag() as is_interrupted:
        together = _Together(replicas, lambda: is_interrupted() or is_stopped())
        together.run()
    return together.ends


class _Together:
    """The stages of several runs, and how each of them ended."""

    def __init__(self, replicas: Sequence[Replica], is_asked: Callable[[], bool]) -> None:
        self._replicas = replicas
        self._is_asked = is_asked
        self._is_stopping = False
        self._step = StepsTogether()
        experiment = replicas[0].experiment
        self._experiment, self._objective = experiment, experiment.objective()
        self._stages: list[Generator[Request, Any, RunResult]] = [
            stages_of_run(
                replica.run, replica.experiment, argv=replica.argv, interruption=nullcontext(lambda: self._is_stopping),
                progress=replica.progress, num_replicas=len(replicas),
            )
            for replica in replicas
        ]  # fmt: skip
        self._waiting: dict[int, Request] = {}
        self.ends: list[RunResult | BaseException] = [RuntimeError("not begun")] * len(replicas)

    def run(self) -> None:
        """Answer what is furthest behind, for all runs that are there, until every run has ended."""
        for index, stages in enumerate(self._stages):
            self._advance(index, stages.__next__)
        while self._waiting:
            first = min(map(_place, self._waiting.values()))
            asking = [index for index, request in self._waiting.items() if _place(request) == first]
            self._is_stopping = self._is_stopping or self._is_asked()
            try:
                answers = self._answers(first[-1], asking)
            except BaseException as error:  # whatever it is, every run saves its state and ends by it
                answers = [error] * len(asking)
            for index, answer in zip(asking, answers, strict=True):
                stages = self._stages[index]
                is_error = isinstance(answer, BaseException)
                self._advance(index, partial(stages.throw if is_error else stages.send, answer))

    def _advance(self, index: int, move: Callable[[], Request]) -> None:
        self._waiting.pop(index, None)
        try:
            self._waiting[index] = move()
        except StopIteration as end:
            self.ends[index] = end.value
        except BaseException as error:
            self.ends[index] = error

    def _answers(self, kind: str, asking: list[int]) -> Sequence[object]:
        requests = [self._waiting[index] for index in asking]
        recipe = self._experiment.recipe
        if kind == "validation":
            return [validation_scores(found) for found in self._scores(requests, validation_tasks(recipe))]
        if kind == "evaluation":
            return self._scores(requests, evaluation_tasks(recipe))
        found = self._gradients(asking, requests)
        return self._step([request.state for request in requests], found, [request.outer for request in requests])

    def _scores(self, requests: list[Request], tasks: dict[str, Any]) -> list[Evaluation]:
        return score_replicas(self._experiment, [request.meta for request in requests], **tasks)

    def _gradients(self, asking: list[int], requests: list[Request]) -> list[MetaGradient]:
        seeds = [self._replicas[index].experiment.recipe.seed for index in asking]
        num_tasks, iteration = self._experiment.recipe.outer.tasks, requests[0].iteration
        # All tasks are drawn at once, each by the key that it has in its own run.
        generators = [task_generator(seed, "train", iteration, task) for seed in seeds for task in range(num_tasks)]
        episode = self._experiment.distributions["train"].sample(generators)
        metas = [request.meta for request in requests]
        return meta_gradients(self._objective, metas, episode, requests[0].how)


def _place(request: Request) -> tuple[bool, int, bool, str]:
    """Return where a run stands, for runs at the same place to be answered together: evaluations come last."""
    is_evaluation = request.kind == "evaluation"
    return is_evaluation, 0 if is_evaluation else request.iteration, request.kind == "step", request.kind
