"""The paper's studies are made here: what the axis of each changes in a recipe, and which values are compared.

sweep-depth: model.depth, with closed forms for linear regression and a capacity arm.
add-linear: model.linear_layers, with the real collapse of the layers into one.
meta-opt: inner.transform.name, alone or crossed with model.depth.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import MamlError, RecipeError, RunError
from mamlcli.common.names import TRANSFORMS
from mamlcli.common.words import nearest
from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.plugins import plugin_names
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps.scores import GridValue
from mamlcli.studies.sweeps.sweep import DEPTH, LAYERS, OPTIMIZER, AxisValue, Sweep
from mamlcli.training.given import given_now


def depth_sweep(
    name: str, recipe: Recipe, *, depths: Sequence[int], num_seeds: int, inner_lrs: Sequence[float] = ()
) -> Sweep:
    """Return the study of model depth: conv blocks, hidden layers, or linear layers of a linear model."""
    _check_values(depths, "--depths")
    _check_has(recipe, DEPTH, "no depth that is known")
    values = tuple(AxisValue(depth, f"depth {depth}", {DEPTH: depth}, f"--depths {depth}") for depth in depths)
    return Sweep(
        "sweep-depth",
        DEPTH,
        name,
        recipe,
        values,
        num_seeds=num_seeds,
        inner_lrs=tuple(inner_lrs),
        pairs=_neighbours_and_first(len(values)),
    )


def linear_sweep(
    name: str,
    recipe: Recipe,
    *,
    layers: Sequence[int],
    num_seeds: int,
    inner_lrs: Sequence[float] = (),
    started_from: Path | None = None,
) -> Sweep:
    """Return the study of linear layers appended to the output, from a fresh start or from a trained run.

    Raises:
        RunError: the run to start from has such layers already, or the recipe is not the run's.
    """
    _check_values(layers, "--layers")
    _check_has(recipe, LAYERS, "none that layers are appended to")
    if started_from is not None:
        _check_start(RunDirectory.open(started_from), recipe)
    values = tuple(
        AxisValue(num, f"{num} layer{'s' if num != 1 else ''}", {LAYERS: num}, f"--layers {num}") for num in layers
    )
    return Sweep(
        "add-linear",
        LAYERS,
        name,
        recipe,
        values,
        num_seeds=num_seeds,
        inner_lrs=tuple(inner_lrs),
        pairs=_neighbours_and_first(len(values)),
        started_from=started_from,
        with_collapse=True,
    )


def optimizer_sweep(
    name: str,
    recipe: Recipe,
    *,
    optimizers: Sequence[str],
    depths: Sequence[int] = (),
    num_seeds: int,
    inner_lrs: Sequence[float] = (),
) -> Sweep:
    """Return the study of gradient transforms; with depths, the grid of depth x optimizer.

    Raises:
        RecipeError: a name that is no transform; the message has the nearest one.
    """
    _check_values(optimizers, "--optimizers")
    if depths:
        _check_values(depths, "--depths")
        _check_has(recipe, DEPTH, "no depth that is known")
    names = (*TRANSFORMS, *plugin_names("inner.transform"), *(["python"] if given_now().transform is not None else []))
    if unknown := [name for name in optimizers if name not in names]:
        known = ", ".join(names)
        raise RecipeError(
            [f"--optimizers: expected one of {known}, got {name!r}.{nearest(name, names)}" for name in unknown]
        )
    if not depths:
        values = tuple(map(_optimizer_value, optimizers))
        pairs = tuple((b, a) for a, b in itertools.combinations(range(len(values)), 2))
        axis = OPTIMIZER
    else:
        values = tuple(_grid_value(depth, optimizer) for depth, optimizer in itertools.product(depths, optimizers))
        pairs = _grid_pairs(len(depths), len(optimizers))
        axis = f"{DEPTH} x {OPTIMIZER}"
    return Sweep("meta-opt", axis, name, recipe, values, num_seeds=num_seeds, inner_lrs=tuple(inner_lrs), pairs=pairs)


def sweep_over(
    name: str,
    recipe: Recipe,
    *,
    depths: Sequence[int] = (),
    layers: Sequence[int] = (),
    optimizers: Sequence[str] = (),
    num_seeds: int,
    inner_lrs: Sequence[float] = (),
) -> Sweep:
    """Return the study of the axis that values are given for; depths with optimizers are their grid.

    Raises:
        MamlError: there are values of no axis, or of two that make no study.
    """
    if layers and not depths and not optimizers:
        return linear_sweep(name, recipe, layers=layers, num_seeds=num_seeds, inner_lrs=inner_lrs)
    if optimizers and not layers:
        return optimizer_sweep(
            name, recipe, optimizers=optimizers, depths=depths, num_seeds=num_seeds, inner_lrs=inner_lrs
        )
    if depths and not layers:
        return depth_sweep(name, recipe, depths=depths, num_seeds=num_seeds, inner_lrs=inner_lrs)
    named = {"depths": depths, "layers": layers, "optimizers": optimizers}
    got = " and ".join(axis for axis, values in named.items() if values) or "none of them"
    raise MamlError("sweep", expected="values of depths, layers or optimizers, or of depths and optimizers", got=got)


def _optimizer_value(optimizer: str) -> AxisValue:
    return AxisValue(optimizer, optimizer, _transform_changes(optimizer), f"--optimizers {optimizer}")


def _grid_value(depth: int, optimizer: str) -> AxisValue:
    return AxisValue(
        GridValue(depth, optimizer),
        f"depth {depth}, {optimizer}",
        {DEPTH: depth, **_transform_changes(optimizer)},
        f"--depths {depth} --optimizers {optimizer}",
    )


def _transform_changes(name: str) -> dict[str, object]:
    # Without a transform there is none to adapt; its other keys mean nothing then.
    return {"inner.transform": {"name": "none"}} if name == "none" else {OPTIMIZER: name}


def _check_values(values: Sequence[object], option: str) -> None:
    if not values:
        raise MamlError(option, expected="at least one value", got="none")
    repeated = [value for index, value in enumerate(values) if value in values[:index]]
    if repeated:
        raise MamlError(option, expected="each value once", got=f"{repeated[0]} twice")


def _check_has(recipe: Recipe, axis: str, got: str) -> None:
    """Raise a MamlError where the code of the network is not mamlcli's, and its keys have not the one of the axis."""
    model = recipe.model
    if isinstance(model, OutsideModel) and axis.rpartition(".")[2] not in type(model).model_fields:
        raise MamlError(
            f"model.kind={model.kind}",
            expected=f"a network with the key {axis}, which this study varies",
            got=f"{got}: its code is not mamlcli's",
            next_step=f"Compare transforms on it: {command('meta-opt', '--optimizers', 'none,kfo')}",
        )


def _neighbours_and_first(num_values: int) -> tuple[tuple[int, int], ...]:
    """Return (later, earlier) for neighbours, then each value against the first."""
    neighbours = [(index, index - 1) for index in range(1, num_values)]
    return tuple(dict.fromkeys([*neighbours, *((index, 0) for index in range(1, num_values))]))


def _grid_pairs(num_depths: int, num_optimizers: int) -> tuple[tuple[int, int], ...]:
    """Return each optimizer against the first of its depth, then each depth against the one before."""
    index = {cell: i for i, cell in enumerate(itertools.product(range(num_depths), range(num_optimizers)))}
    against_first = [(index[d, o], index[d, 0]) for d in range(num_depths) for o in range(1, num_optimizers)]
    deeper = [(index[d, o], index[d - 1, o]) for d in range(1, num_depths) for o in range(num_optimizers)]
    return (*against_first, *deeper)


def _check_start(run: RunDirectory, recipe: Recipe) -> None:
    if getattr(run.recipe.model, "linear_layers", 0):
        raise RunError(
            run.label,
            expected="a run without appended linear layers",
            got=f"model.linear_layers={run.recipe.model.linear_layers}",
            next_step="Start from its recipe, or from a shallow run",
        )
    changed = [
        key
        for key in recipe_difference(run.recipe, recipe)
        if key.startswith(("model.", "tasks.source", "tasks.ways", "tasks.dimension")) and key != "model.linear_width"
    ]
    if changed:
        raise RunError(
            run.label,
            expected="keys that leave the trained weights as they are",
            got=", ".join(changed),
            next_step="Start from a recipe instead of a run",
        )
