"""A study sweeps axis values x seeds over a recipe; each cell is an ordinary run directory.

A study folder holds study.json (what is studied; written first), cells/<slug>/ (run directories), and, once cells
are done, result.json, table.csv, figure.png and figure.svg. The same command on the same folder skips cells that
are done, resumes those that were cut, and tries those again that failed.

The seed of a cell draws everything: training, meta-validation tasks and meta-test tasks. All axis values share seeds
and, for each seed, tasks, so that they can be compared pair by pair; and as every seed has other tasks, an interval
over seeds holds the spread of trainings and of tasks.

A job of the pool is one cell, or several seeds of a value whose model is so small that they are trained as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mamlcli.common.errors import MamlError, RecipeError
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.files import recipe_to_tree
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import SyntheticKeys
from mamlcli.studies.sweeps.scores import Value, value_to_json
from mamlcli.training.experiment import Experiment, build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.networks import build_network
from mamlcli.training.placement import resolve_device

# What study.json calls the rule by which tasks are drawn; older ones say nothing: common to all seeds.
TASKS_OF_EACH_SEED = "of each seed"


@dataclass(frozen=True)
class AxisValue:
    """An axis value is one value of a study's axis, with what it changes in the recipe.

    Attributes:
        value: a number, a name, or both on a grid.
        label: in words, as in "depth 2".
        changes: dotted recipe keys and what they become; `inner.lr` only where the study has no `inner_lrs`.
        option: the command-line option that it came from, for errors.
    """

    value: Value
    label: str
    changes: Mapping[str, object]
    option: str

    @property
    def slug(self) -> str:
        """The label as part of a folder's name."""
        return self.label.replace(",", "").replace(" ", "-")


@dataclass(frozen=True)
class Sweep:
    """A sweep is what defines a study: what varies, and over what.

    Attributes:
        study: the command's name.
        axis: the recipe key that varies; on a grid both, joined by " x ".
        recipe_name, recipe: the base.
        values: of the axis, in order.
        num_seeds: seeds from `recipe.seed` upwards.
        inner_lrs: candidates for each value's inner learning rate, chosen by meta-validation; empty for the
            recipe's own.
        pairs: (a, b) as indices into `values`, compared pair by pair.
        started_from: a trained run that every cell starts from, with linear layers appended; None for a fresh
            start.
        with_collapse: whether each cell's linear layers are collapsed and the outputs compared.
        least_tasks: fewer meta-test tasks than these are not scored, whatever the recipe says; 0 for the recipe's.
        has_common_tasks: whether all seeds have the tasks of the recipe's `evaluation.seed`, and as many as the
            recipe says; so it was in older versions, whose study folders go on as they began.
        control_tasks: where linear layers are also collapsed before they adapt, see `collapsed_control`: the
            meta-validation tasks that each inner learning rate of that control is tried on; 0 for no control.
    """

    study: str
    axis: str
    recipe_name: str
    recipe: Recipe
    values: tuple[AxisValue, ...]
    num_seeds: int = 3
    inner_lrs: tuple[float, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    started_from: Path | None = None
    with_collapse: bool = False
    least_tasks: int = 0
    has_common_tasks: bool = False
    control_tasks: int = 0

    def collapses(self, recipe: Recipe) -> bool:
        """Return whether the linear layers of a cell of this recipe are collapsed.

        Without appended layers there is nothing to collapse but in a study of layers, whose values are compared.
        """
        return self.with_collapse and (getattr(recipe.model, "linear_layers", 0) > 0 or self.axis == LAYERS)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, from the recipe's upwards."""
        return tuple(range(self.recipe.seed, self.recipe.seed + self.num_seeds))

    def settings(self) -> dict[str, object]:
        """Return all that makes two studies the same, as JSON holds it."""
        tasks = {} if self.has_common_tasks else {"tasks": TASKS_OF_EACH_SEED, "least_tasks": self.least_tasks}
        return {
            "study": self.study,
            "axis": self.axis,
            "recipe_name": self.recipe_name,
            "values": [value_to_json(value.value) for value in self.values],
            "seeds": list(self.seeds),
            "inner_lrs": list(self.inner_lrs),
            "started_from": str(self.started_from) if self.started_from else None,
            "recipe": recipe_to_tree(self.recipe),
            **tasks,
        }

    def changes(self, value: AxisValue, seed: int, inner_lr: float | None) -> dict[str, object]:
        """Return what a cell changes in the recipe.

        Args:
            value: of the axis.
            seed: of the cell.
            inner_lr: one of `inner_lrs`; None where there are none.
        """
        changes = {**value.changes, "seed": seed}
        if inner_lr is not None:
            changes["inner.lr"] = inner_lr
        if not self.has_common_tasks:
            changes["evaluation.seed"] = seed
            changes["evaluation.tasks"] = max(self.recipe.evaluation.tasks, self.least_tasks)
        return changes


@dataclass(frozen=True)
class Cell:
    """A cell is one run of a study.

    Attributes:
        value: of the axis.
        seed: of the run.
        inner_lr: of the run.
        recipe: resolved.
        name: of its folder below cells/.
        is_candidate: whether its inner learning rate is one of several to choose from.
    """

    value: AxisValue
    seed: int
    inner_lr: float
    recipe: Recipe
    name: str
    is_candidate: bool

    @property
    def label(self) -> str:
        """The cell in words."""
        rate = f", inner lr {self.inner_lr:g}" if self.is_candidate else ""
        return f"{self.value.label}{rate}, seed {self.seed}"


def cells_of(sweep: Sweep) -> list[Cell]:
    """Return the cells of a sweep: seed by seed, so that an early stop leaves whole seeds.

    Raises:
        RecipeError: values that the recipe cannot have, all at once.
    """
    cells, problems = [], []
    for seed in sweep.seeds:
        for value in sweep.values:
            for rate in sweep.inner_lrs or (None,):
                try:
                    recipe = changed_recipe(sweep.recipe, sweep.changes(value, seed, rate), where=value.option)
                except RecipeError as error:
                    problems += error.problems
                    continue
                middle = "" if rate is None else f"-lr{rate:g}"
                name = f"{value.slug}{middle}-seed-{seed}"
                cells.append(Cell(value, seed, recipe.inner.lr, recipe, name, rate is not None))
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    return cells


def least_tasks(recipe: Recipe, overrides: Iterable[object]) -> int:
    """Return how many meta-test tasks a study scores at least: 2,000 synthetic ones, 1,000 of images.

    Each seed has tasks of its own, so that few of them would widen the interval over seeds. Tasks that an override,
    as in "evaluation.tasks=100", asks for are left as they are: 0 then.
    """
    if any(str(override).startswith("evaluation.tasks=") for override in overrides):
        return 0
    return 2000 if isinstance(recipe.tasks, SyntheticKeys) else 1000


def check_sweep(sweep: Sweep, *, is_here: bool = True) -> Experiment:
    """Build every axis value's network and inner loop, so that what cannot run is refused before anything does.

    Args:
        sweep: a study.
        is_here: whether it runs on this machine, which has to have its device then.

    Returns:
        The first value's experiment, on the CPU.

    Raises:
        MamlError: values that the model cannot have, all at once; data or a device that is missing.
    """
    if sweep.inner_lrs and sweep.recipe.validation.every is None:
        raise MamlError(
            "--inner-lrs",
            expected="a recipe with meta-validation to choose rates by",
            got="validation.every=null",
            next_step="Set validation.every=200",
        )
    by_value = {cell.value.label: cell for cell in cells_of(sweep)}
    first = next(iter(by_value.values())).recipe
    if is_here:
        resolve_device(first.execution.device)
    # On the CPU: the parent of a sweep on CUDA computes nothing and should hold no memory there.
    on_cpu = changed_recipe(first, {"execution.device": "cpu", "inner.transform": {"name": "none"}}, "recipe")
    base = build(on_cpu, splits=splits_of_training(first))
    base.use_threads()  # the closed forms are computed with it
    problems: list[str] = []
    shape, num_outputs = base.network.input_shape, base.network.num_outputs
    for cell in by_value.values():
        try:
            network = build_network(cell.recipe, shape, num_outputs)
            replace(base, recipe=cell.recipe, network=network).scoring_objective()
        except MamlError as error:
            problems.append(f"{cell.value.option}: {error}")
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    return replace(base, recipe=on_cpu)


DEPTH, LAYERS, OPTIMIZER = "model.depth", "model.linear_layers", "inner.transform.name"
