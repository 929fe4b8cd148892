"""`mamlcli sweep-depth`, `add-linear` and `meta-opt` run the studies of the paper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete
from mamlcli.cli.options import (
    BARE,
    DeviceOption,
    DirOption,
    InnerLrsOption,
    JobsOption,
    JsonOption,
    OnOption,
    PerGpuOption,
    SeedsOption,
    StartArguments,
    StudyArguments,
    has_recipe,
    integers,
    place_to_write,
    rates,
    recipe_and_overrides,
    words,
)
from mamlcli.cli.study_display import show_collapse, study
from mamlcli.common.errors import MamlError
from mamlcli.common.names import TRANSFORMS
from mamlcli.runs.models import run_folder

if TYPE_CHECKING:
    from mamlcli.recipe.schema import Recipe
    from mamlcli.studies.sweeps.sweep import Sweep


LayersOption = Annotated[str, typer.Option(metavar="LIST", help="Values of model.linear_layers.")]


GridDepthsOption = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="Values of model.depth, for a grid of depth x optimizer.", show_default=False),
]


CollapseOption = Annotated[
    Path | None,
    typer.Option(
        metavar="OUT.safetensors",
        help="Train nothing: multiply the linear layers of RUN into one and write its weights here.",
        show_default=False,
        callback=place_to_write,
    ),
]


def sweep_depth(
    arguments: StudyArguments = None,
    depths: Annotated[str, typer.Option(metavar="LIST", help="Values of model.depth.")] = "1,2,3,4",
    seeds: SeedsOption = 3,
    inner_lrs: InnerLrsOption = None,
    capacity: Annotated[
        bool | None,
        typer.Option(
            "--capacity/--no-capacity",
            help="Also train each depth without meta-learning on many examples of the same tasks; by default "
            "for synthetic tasks.",
            show_default=False,
        ),
    ] = None,
    jobs: JobsOption = None,
    on: OnOption = None,
    per_gpu: PerGpuOption = None,
    directory: DirOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Study depth: is a deeper model better after adaptation, even where a shallow one has the capacity?

    Without a recipe: linear models of 1 to 4 layers on the logistic recipe, with 200 meta-iterations at each of
    --inner-lrs 0.5,2,8, the best one chosen for each depth; about two minutes on two cores. All depths are the same
    function class there.

    Each cell is a run directory; the same command with --dir skips what is done and finishes the rest.

    Examples:

      mamlcli sweep-depth

      mamlcli sweep-depth glyphs-5way-1shot --depths 1,2,4 --seeds 5

      mamlcli sweep-depth linear-regression --inner-lrs 0.1,0.3,1

      mamlcli sweep-depth logistic --dir runs/sweep-depth-logistic-1
    """
    from mamlcli.studies.sweeps.axes import depth_sweep
    from mamlcli.studies.sweeps.sweep import DEPTH
    from mamlcli.studies.where.places import Wish

    name, recipe = _study_recipe(arguments, device, (DEPTH,))
    sweep = depth_sweep(
        name, recipe, depths=integers(depths, "--depths"), num_seeds=seeds, inner_lrs=rates(inner_lrs, arguments)
    )
    study(_with_tasks(sweep, arguments), directory, Wish(on, jobs, per_gpu), with_capacity=capacity)


def add_linear(
    arguments: StartArguments = None,
    layers: LayersOption = "0,1,2,3",
    seeds: SeedsOption = 3,
    inner_lrs: InnerLrsOption = None,
    collapse: CollapseOption = None,
    jobs: JobsOption = None,
    on: OnOption = None,
    per_gpu: PerGpuOption = None,
    directory: DirOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Append linear layers to a model's output: no capacity added, yet does it adapt better?

    n layers turn the last map d -> o into d -> w -> ... -> w -> o; w is model.linear_width, by default d. After
    adaptation the layers of every model are multiplied into one, and the outputs of both are compared.

    Without a recipe: logistic regression with 0 to 3 layers on the logistic recipe, with 200 meta-iterations at
    each of --inner-lrs 0.5,2,8, the best one chosen for each; about two minutes on two cores.

    With a run instead of a recipe, its trained weights are the start: the layers are appended so that the function
    is the same at first, and meta-training goes on (w >= d then).

    Examples:

      mamlcli add-linear

      mamlcli add-linear glyphs-5way-1shot model.depth=2 --layers 0,1,2

      mamlcli add-linear runs/glyphs-5way-1shot-1 --layers 0,2 model.linear_width=64

      mamlcli add-linear runs/add-linear-logistic-1/cells/2-layers-seed-0 --collapse small.safetensors
    """
    from mamlcli.studies.sweeps.axes import linear_sweep
    from mamlcli.studies.sweeps.sweep import LAYERS
    from mamlcli.studies.where.places import Wish

    run = _run_of(arguments)
    if collapse is not None:
        show_collapse(run, collapse)
        return
    name, recipe = _study_recipe(arguments, device, (LAYERS,), run)
    sweep = linear_sweep(
        name,
        recipe,
        layers=integers(layers, "--layers"),
        num_seeds=seeds,
        inner_lrs=rates(inner_lrs, arguments),
        started_from=run,
    )
    study(_with_tasks(sweep, arguments), directory, Wish(on, jobs, per_gpu), with_capacity=False)


def meta_opt(
    arguments: StudyArguments = None,
    optimizers: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help=f"Values of inner.transform.name, of {', '.join(TRANSFORMS)}.",
            autocompletion=complete.list_of(*TRANSFORMS),
        ),
    ] = "none,meta-sgd,meta-curvature,kfo,kfo-mlp",
    depths: GridDepthsOption = None,
    seeds: SeedsOption = 3,
    inner_lrs: InnerLrsOption = None,
    jobs: JobsOption = None,
    on: OnOption = None,
    per_gpu: PerGpuOption = None,
    directory: DirOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Study meta-optimizers: gradient transforms that are meta-learned along with the model.

    Each works with inner.algorithm=maml, anil and boil, inner.first_order=true, on the parameters that match
    inner.transform.parameters, and with inner.transform.adapted=true.

    Without a recipe: a linear model on the logistic recipe, with 200 meta-iterations at each of --inner-lrs
    0.5,2,8, the best one chosen for each optimizer; about two minutes on two cores.

    Examples:

      mamlcli meta-opt

      mamlcli meta-opt logistic --optimizers none,kfo --depths 1,2,3

      mamlcli meta-opt glyphs-5way-1shot model.depth=2 inner.algorithm=anil --optimizers none,kfo
    """
    from mamlcli.studies.sweeps.axes import optimizer_sweep
    from mamlcli.studies.sweeps.sweep import DEPTH, OPTIMIZER
    from mamlcli.studies.where.places import Wish

    axes = (DEPTH, OPTIMIZER) if depths else (OPTIMIZER,)
    name, recipe = _study_recipe(arguments, device, axes)
    sweep = optimizer_sweep(
        name,
        recipe,
        optimizers=words(optimizers),
        depths=integers(depths or "", "--depths"),
        num_seeds=seeds,
        inner_lrs=rates(inner_lrs, arguments),
    )
    study(_with_tasks(sweep, arguments), directory, Wish(on, jobs, per_gpu), with_capacity=False)


def _with_tasks(sweep: Sweep, arguments: list[str] | None) -> Sweep:
    """Return the study with as many meta-test tasks as a study needs, unless the command says how many."""
    from mamlcli.studies.sweeps.sweep import least_tasks

    return replace(sweep, least_tasks=least_tasks(sweep.recipe, arguments or []))


def _run_of(arguments: list[str] | None) -> Path | None:
    """Return the run directory, or the name of the shipped model, that the first argument is; None if it is neither."""
    from mamlcli.recipe.files import shipped_recipes

    first = Path(arguments[0]) if arguments else None
    if first is None or not run_folder(first).is_dir():
        return None
    # A folder that merely has a recipe's name does not hide the recipe.
    return first if (first / "recipe.yaml").is_file() or str(first) not in shipped_recipes() else None


def _study_recipe(
    arguments: list[str] | None, device: str | None, axes: tuple[str, ...], run: Path | None = None
) -> tuple[str, Recipe]:
    """Return name and recipe of a study; a key that the study varies may not be set."""
    taken = [text for text in arguments or [] if text.partition("=")[0] in axes]
    if taken:
        raise MamlError("command line", expected=f"{axes[0]} left to the study, which varies it", got=repr(taken[0]))
    if run is not None:
        from mamlcli.runs.folder import RunDirectory
        from mamlcli.training.data_place import located

        source = RunDirectory.open(run)
        _, recipe = recipe_and_overrides([str(source.recipe_path), *(arguments or [])[1:]], device)
        return source.name, located(source, recipe)
    return recipe_and_overrides(arguments if has_recipe(arguments) else [*BARE, *(arguments or [])], device)
