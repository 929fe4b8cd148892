"""This module measures how a recipe runs fastest on this machine, and stores the choice."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from mamlcli.bench.implementations import AUTO, OURS
from mamlcli.bench.timing import Runner, best_threads, measure_rounds, spread, threads_restored
from mamlcli.engine.execution import Execution, meta_gradients, why_unmapped
from mamlcli.recipe.schema import Recipe
from mamlcli.tasks.episodes import Episode, sample_tasks
from mamlcli.training.experiment import Experiment, build
from mamlcli.training.tuned import TunedChoice, store_tuned, tuned_ignored

# What the rounds of the candidates may take, in seconds.
_BUDGET_S = 60.0

# A candidate this many times slower than the best is not measured again.
_HOPELESS = 1.5


def candidates(auto: Execution, num_tasks: int, *, with_vmap: bool = True) -> list[Execution]:
    """Return the executions to measure: what `auto` picks, the loop, and chunks of each kind up to all tasks.

    Args:
        auto: what is chosen without measuring; it comes first. Chunks are never more than eight times as large,
            since it was chosen to fit into memory.
        num_tasks: tasks of a meta-batch.
        with_vmap: whether tasks may be mapped by vmap.
    """
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= min(num_tasks, 8 * auto.chunk)]
    chunked = [
        dataclasses.replace(auto, chunk=size, parallel=min(parallel, math.ceil(num_tasks / size)))
        for size in sizes
        for parallel in (1, auto.parallel)
        if auto.path == "explicit"
    ]
    mapped = [Execution("batched", size) for size in sizes if size > 1 and with_vmap]
    return list(dict.fromkeys([auto, Execution("loop", 1), *chunked, *mapped]))


@dataclass(frozen=True)
class TuningReport:
    """Holds what `mamlcli bench --tune` measured on a recipe.

    Attributes:
        recipe: the recipe's name.
        tasks: tasks of the meta-batch.
        key: what the choice is stored under.
        file: where it is stored.
        candidates: the ways that were measured.
        chosen: the fastest of them.
    """

    recipe: str
    tasks: int
    key: str
    file: Path
    candidates: tuple[TunedChoice, ...]
    chosen: TunedChoice

    def to_json(self) -> dict[str, object]:
        """Return the report as primitives."""
        return {
            "recipe": self.recipe,
            "tasks": self.tasks,
            "key": self.key,
            "file": str(self.file),
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "chosen": self.chosen.to_json(),
        }


def tune(name: str, recipe: Recipe, *, repeats: int | None = None, on_note: Callable[[str], None]) -> TuningReport:
    """Measure the candidates of `execution` on one meta-batch of a recipe, store the fastest, and return the report.

    Args:
        name: of the recipe, for the report.
        recipe: resolved; its data is needed.
        repeats: rounds; None for 3 to 15, as fit into a minute.
        on_note: called with a line for every candidate.

    Raises:
        MamlError: as `build` does; or the choice cannot be stored.
    """
    with threads_restored(), tuned_ignored():
        experiment = build(recipe, splits=("train",))
        experiment.use_threads()
        num_tasks, num_steps = recipe.outer.tasks, recipe.inner.steps
        tasks = experiment.training
        assert tasks is not None, "built with the split train"
        episode = sample_tasks(tasks, seed=recipe.seed, split="train", iteration=0, indices=range(num_tasks))
        auto = experiment.execution(num_tasks=num_tasks, num_steps=num_steps)
        with_vmap = recipe.inner.memory == "unrolled" and why_unmapped(experiment.objective()) is None
        executions = candidates(auto, num_tasks, with_vmap=with_vmap)
        runners = _promising(experiment, episode, executions, on_note)
        measure_rounds([runner for _, runner in runners], repeats=repeats, budget_s=_BUDGET_S)
    spreads = [spread(runner.samples) for _, runner in runners]
    choices = [
        TunedChoice(execution, runner.threads, seconds)
        for (execution, runner), seconds in zip(runners, spreads, strict=True)
    ]
    chosen, _ = min(zip(choices, spreads, strict=True), key=lambda pair: pair[1].median)
    key = experiment.tuning_key(num_tasks=num_tasks, num_steps=num_steps)
    path = store_tuned(key, dataclasses.replace(chosen, recipe=name))
    return TuningReport(name, num_tasks, key, path, tuple(choices), chosen)


def _promising(
    experiment: Experiment, episode: Episode, executions: list[Execution], on_note: Callable[[str], None]
) -> list[tuple[Execution, Runner]]:
    """Time each candidate once, after a call for warmth, and return those that are not far slower than the best."""
    objective, meta = experiment.objective(), experiment.initial_meta()
    timed: list[tuple[Execution, Runner, float]] = []
    for execution in executions:

        def compute(execution: Execution = execution) -> dict[str, torch.Tensor]:
            return meta_gradients(objective, [meta], episode, execution)[0].gradients

        runner = Runner(OURS[AUTO], compute, experiment.device, 1)
        if execution.path != "explicit":  # there a thread has a chunk, elsewhere threads share operations
            runner.threads = best_threads(runner, sorted({1, experiment.num_threads}))
        runner.seconds()
        seconds = runner.seconds()
        words = ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(execution).items())
        on_note(f"{words}: {seconds:.3g} s")
        timed.append((execution, runner, seconds))
    best = min(seconds for _, _, seconds in timed)
    return [(execution, runner) for execution, runner, seconds in timed if seconds <= _HOPELESS * best]
