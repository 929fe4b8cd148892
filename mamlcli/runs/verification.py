"""Compares runs of a recipe with the number that the recipe should reproduce, by an equivalence test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.commands import command
from mamlcli.common.errors import RecipeError, RunError
from mamlcli.common.statistics import LEVEL, Equivalence, equivalence
from mamlcli.common.tables import PERCENT
from mamlcli.common.words import one_line
from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.reference_schema import Reference
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.comparison import check_finished
from mamlcli.runs.entry import RunEntry
from mamlcli.runs.models import label_of
from mamlcli.runs.pairing import task_differences, task_scores
from mamlcli.runs.report import Protocol
from mamlcli.runs.scores_table import SCORE_COLUMNS

# Keys that may differ among runs of one recipe: seeds vary, and the others change nothing but rounding and files. What
# a run was scored on, its report says.
_MAY_DIFFER = ("seed", "tasks.path", "outer.checkpoint_every", "execution.", "logging", "evaluation.")


# What `adapt` scores in another way by a key of `evaluation`, with the name that the protocol has for it.
_EVALUATION_KEYS = {
    "ways": "ways",
    "shots": "shots",
    "queries": "queries",
    "batch_norm": "batch_norm_statistics",
    "seed": "seed",
}


@dataclass(frozen=True)
class _Metric:
    """Says how a reference's metric is computed from the scores of tasks, and how it is written."""

    column: str
    scale: float
    is_higher_better: bool
    unit: str


METRICS = {
    "accuracy": _Metric("query_accuracy", PERCENT, True, "per cent"),
    "squared-error": _Metric("query_loss", 2.0, False, "mean squared error, twice the loss"),
}


@dataclass(frozen=True)
class VerifiedRun:
    """One run of the recipe.

    Attributes:
        run: its folder.
        seed: of its training.
        weights: which checkpoint was scored, in words.
        value: its mean over the tasks, in the unit of the reference.
    """

    run: str
    seed: int
    weights: str
    value: float


@dataclass(frozen=True)
class Verification:
    """Says whether runs of a recipe reproduce its reference.

    Attributes:
        recipe: its name.
        reference: the number, its margin and source.
        protocol: how the runs were scored; `num_tasks` are those that all were scored on.
        runs: one for each seed.
        result: of the test, in the unit of the reference.
        changes: keys that were changed of the recipe, KEY=VALUE.
    """

    recipe: str
    reference: Reference
    protocol: Protocol
    runs: tuple[VerifiedRun, ...]
    result: Equivalence
    changes: tuple[str, ...] = ()

    @property
    def metric(self) -> _Metric:
        """How the reference's metric is computed and written."""
        return METRICS[self.reference.metric]

    @property
    def is_reached(self) -> bool:
        """Whether the reference is reached: within the margin, or better."""
        return self.result.verdict in ("equivalent", "better")

    def to_json(self) -> dict[str, object]:
        """Return the verification as `recipes verify --json` prints it; all numbers are in the unit that it names."""
        result = self.result
        return {
            "recipe": self.recipe,
            "changes": list(self.changes),
            "verdict": result.verdict,
            "unit": self.metric.unit,
            "reference": self.reference.model_dump(mode="json"),
            "mean": result.mean,
            "gain": result.gain,
            "interval90": None if result.interval is None else list(result.interval),
            "interval_over": "tasks, one seed" if len(self.runs) == 1 else "seeds and tasks",
            "level": LEVEL,
            "p_equivalent": result.p_equivalent,
            "p_better": result.p_better,
            "num_seeds": len(self.runs),
            "num_tasks": self.protocol.num_tasks,
            "protocol": self.protocol.to_json(),
            "runs": [vars(run) for run in self.runs],
        }


def reference_of(name: str, recipe: Recipe) -> Reference:
    """Return the reference of a recipe; RecipeError says what to add to one without."""
    if recipe.reference is None:
        example = (
            f"reference: {{metric: {'accuracy' if recipe.is_classification else 'squared-error'}, value: ..., "
            "margin: ..., source: ...}"
        )
        expected = "the number that the recipe should reproduce, got none"
        raise RecipeError([f"{one_line(name)}: reference: expected {expected}. Add to the recipe: {example}"])
    return recipe.reference


def verify_runs(name: str, recipe: Recipe, expected: Protocol, runs: Sequence[RunEntry]) -> Verification:
    """Compare finished runs of a recipe with its reference.

    Args:
        name: of the recipe.
        recipe: with a reference.
        expected: how the recipe is scored, after the reference's inner steps.
        runs: at least one, each of another seed. Each may be scored on more tasks, and with more inner steps.

    Raises:
        RecipeError: the recipe has no reference.
        RunError: a run is not finished, of another recipe, of a seed that is there already, was scored by another
            protocol, or has scores that are not finite.
    """
    reference = reference_of(name, recipe)
    for run in runs:
        check_finished(run)
        _check_recipe(name, recipe, run)
        _check_protocol(run, expected)
    _check_together(runs)
    metric = METRICS[reference.metric]
    column = SCORE_COLUMNS.index(metric.column)
    scores = [metric.scale * _scores_after(run, expected.inner_steps)[:, column] for run in runs]
    num_tasks = min(map(len, scores))  # tasks are numbered: the first ones are the same
    for run, values in zip(runs, scores, strict=True):
        if not np.isfinite(values).all():
            got = f"{int((~np.isfinite(values)).sum())} that overflowed"
            raise RunError(run.where, expected="finite scores of all tasks", got=got)
    result = equivalence(
        np.stack([values[:num_tasks] for values in scores]),
        reference.value,
        margin=reference.margin,
        is_higher_better=metric.is_higher_better,
    )
    verified = tuple(_verified(run, float(values[:num_tasks].mean())) for run, values in zip(runs, scores, strict=True))
    return Verification(name, reference, replace(expected, num_tasks=num_tasks), verified, result)


def _scores_after(run: RunEntry, num_steps: int) -> NDArray[np.float64]:
    """Return the scores of a run's tasks after so many inner steps, [num_tasks, columns].

    Raises:
        RunError: it is a shipped model, which has those after the last step alone, and its last step is another.
    """
    assert run.report is not None
    scores = task_scores(run)
    if scores.shape[1] > num_steps:
        return scores[:, num_steps]
    if run.report.protocol.inner_steps != num_steps:
        got = f"those after {run.report.protocol.inner_steps} steps alone, as shipped models have them"
        next_step = "Verify a run of your own, or a recipe (--seeds)"
        raise RunError(run.where, expected=f"scores after {num_steps} inner steps", got=got, next_step=next_step)
    return scores[:, -1]


def _check_recipe(name: str, recipe: Recipe, run: RunEntry) -> None:
    assert run.recipe is not None, "a finished run has a recipe that can be read"
    difference = recipe_difference(recipe, run.recipe)
    listed = [
        f"{key} ({there!r} in the recipe, {here!r} in the run)"
        for key, (there, here) in difference.items()
        if not key.startswith(_MAY_DIFFER)
    ]
    if listed:
        expected, next_step = f"a run of {name}", "Give these keys after the recipe, or name another run"
        raise RunError(run.where, expected=expected, got=f"another: {', '.join(listed)}", next_step=next_step)


def _check_protocol(run: RunEntry, expected: Protocol) -> None:
    assert run.report is not None, "a finished run has a result that can be read"
    protocol = run.report.protocol
    num_tasks = max(protocol.num_tasks, expected.num_tasks)
    inner_steps = max(protocol.inner_steps, expected.inner_steps)
    wanted = replace(expected, num_tasks=num_tasks, inner_steps=inner_steps).to_json()
    of_recipe, of_run = expected.to_json(), protocol.to_json()
    listed = [
        f"{key} ({of_recipe.get(key)!r} in the recipe, {of_run.get(key)!r} in the run)"
        for key in {**wanted, **of_run}
        if of_run.get(key) != wanted.get(key)
    ]
    if listed:
        changes = [
            f"evaluation.{key}={of_recipe[name]}"
            for key, name in _EVALUATION_KEYS.items()
            if of_recipe.get(name) is not None and of_recipe[name] != of_run.get(name)
        ]
        numbers = ("--tasks", str(expected.num_tasks), "--steps", str(expected.inner_steps), "--split", expected.split)
        rescore = command("adapt", label_of(run.path), *changes, *numbers, "--out", label_of(run.path))
        next_step = f"Give the recipe's evaluation keys, or run: {rescore}"
        wanted_words = "a run that was scored as the recipe says"
        raise RunError(run.where, expected=wanted_words, got=f"other {', '.join(listed)}", next_step=next_step)


def _check_together(runs: Sequence[RunEntry]) -> None:
    """Raise RunError unless the runs are of different seeds and were scored on the same tasks."""
    seen: dict[int, RunEntry] = {}
    for run in runs:
        assert run.recipe is not None, "a finished run has a recipe that can be read"
        seed = run.recipe.seed
        if seed in seen:
            got = f"seed {seed} again, as in {seen[seed].where}"
            raise RunError(run.where, expected="runs of different seeds", got=got)
        seen[seed] = run
        if reasons := task_differences(run, runs[0]):
            got = f"others than {runs[0].where}: {', '.join(reasons)}"
            raise RunError(run.where, expected="the same tasks for every seed", got=got)


def _verified(run: RunEntry, value: float) -> VerifiedRun:
    assert run.recipe is not None, "a finished run has a recipe that can be read"
    assert run.report is not None, "a finished run has a result that can be read"
    return VerifiedRun(run.folder, run.recipe.seed, run.report.weights, value)
