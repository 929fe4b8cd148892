"""`mamlcli sweep-depth`, `add-linear`, `meta-opt`: the paper's studies, one engine."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from mamlcli.cli import complete, console
from mamlcli.cli.common import DeviceOption, JsonOption, recipe_and_overrides, warn_about_selection
from mamlcli.errors import Interrupted, MamlError
from mamlcli.names import TRANSFORMS

if TYPE_CHECKING:
    from mamlcli.recipe import Recipe
    from mamlcli.study_result import StudyResult
    from mamlcli.sweep import CellEnd, Sweep

RUNS = Path("runs")
# What a bare command runs: tasks without a download, at a length of about two minutes on two cores.
BARE = (complete.DEFAULT_STUDY_RECIPE, "outer.iterations=200", "validation.every=100")
# Every line gets the rate that suits it: at the recipe's own, a single layer is far from its best.
BARE_INNER_LRS = "0.5,2,8"

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE] [KEY=VALUE ...]",
        help="A shipped recipe or a file, then keys to change.",
        autocompletion=complete.study_recipe_and_keys,
    ),
]
RunArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE|RUN] [KEY=VALUE ...]",
        help="A recipe, or a trained run to start from, then keys to change.",
        autocompletion=complete.start_and_keys,
    ),
]
SeedsOption = Annotated[int, typer.Option(min=1, help="How many seeds, from the recipe's upwards.")]
InnerLrsOption = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Inner learning rates to choose from, for each axis value by itself, on meta-validation tasks; by "
        f"default the recipe's own, and {BARE_INNER_LRS} where no recipe is given.",
        show_default=False,
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Cells at a time; by default the cores, and 1 on CUDA.", show_default=False),
]
DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="Where the study goes, or a study to finish; by default runs/<study>-<recipe>-<number>.",
        autocompletion=complete.study,
        show_default=False,
    ),
]


def sweep_depth(
    arguments: Arguments = None,
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
    from mamlcli.studies import DEPTH, depth_sweep

    name, recipe = _study_recipe(arguments, device, (DEPTH,))
    sweep = depth_sweep(
        name, recipe, depths=integers(depths, "--depths"), num_seeds=seeds, inner_lrs=rates(inner_lrs, arguments)
    )
    study(sweep, directory, jobs, as_json=as_json, with_capacity=capacity)


def add_linear(
    arguments: RunArguments = None,
    layers: Annotated[str, typer.Option(metavar="LIST", help="Values of model.linear_layers.")] = "0,1,2,3",
    seeds: SeedsOption = 3,
    inner_lrs: InnerLrsOption = None,
    collapse: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.safetensors",
            help="Train nothing: multiply the linear layers of RUN into one and write its weights here.",
            show_default=False,
        ),
    ] = None,
    jobs: JobsOption = None,
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
    from mamlcli.studies import LAYERS, linear_sweep

    run = _run_of(arguments)
    if collapse is not None:
        _show_collapse(run, collapse, as_json)
        return
    name, recipe = _study_recipe(arguments, device, (LAYERS,), run)
    sweep = linear_sweep(
        name, recipe, layers=integers(layers, "--layers"), num_seeds=seeds,
        inner_lrs=rates(inner_lrs, arguments), started_from=run,
    )  # fmt: skip
    study(sweep, directory, jobs, as_json=as_json, with_capacity=False)


def meta_opt(
    arguments: Arguments = None,
    optimizers: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help=f"Values of inner.transform.name, of {', '.join(TRANSFORMS)}.",
            autocompletion=complete.list_of(*TRANSFORMS),
        ),
    ] = "none,meta-sgd,meta-curvature,kfo,kfo-mlp",
    depths: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Values of model.depth, for a grid of depth x optimizer.", show_default=False
        ),
    ] = None,
    seeds: SeedsOption = 3,
    inner_lrs: InnerLrsOption = None,
    jobs: JobsOption = None,
    directory: DirOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Study meta-optimizers: gradient transforms that are meta-learned along with the model.

    Each works with inner.algorithm=maml and anil, inner.first_order=true, on the parameters that match
    inner.transform.parameters, and with inner.transform.adapted=true.

    Without a recipe: a linear model on the logistic recipe, with 200 meta-iterations at each of --inner-lrs
    0.5,2,8, the best one chosen for each optimizer; about two minutes on two cores.

    Examples:

      mamlcli meta-opt

      mamlcli meta-opt logistic --optimizers none,kfo --depths 1,2,3

      mamlcli meta-opt glyphs-5way-1shot model.depth=2 inner.algorithm=anil --optimizers none,kfo
    """
    from mamlcli.studies import DEPTH, OPTIMIZER, optimizer_sweep

    axes = (DEPTH, OPTIMIZER) if depths else (OPTIMIZER,)
    name, recipe = _study_recipe(arguments, device, axes)
    sweep = optimizer_sweep(
        name, recipe, optimizers=words(optimizers), depths=integers(depths or "", "--depths"), num_seeds=seeds,
        inner_lrs=rates(inner_lrs, arguments),
    )  # fmt: skip
    study(sweep, directory, jobs, as_json=as_json, with_capacity=False)


# Arguments -----------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """Return the parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def integers(text: str, option: str) -> list[int]:
    """Return a list of whole numbers such as `1,2,3`."""
    try:
        return [int(part) for part in words(text)]
    except ValueError as error:
        raise MamlError(option, expected="whole numbers separated by commas, as in 1,2,3", got=repr(text)) from error


def rates(text: str | None, arguments: list[str] | None) -> list[float]:
    """Return the rates of --inner-lrs: without it none, or those of a bare command that sets no rate itself."""
    if text is None:
        sets_rate = any(word.startswith("inner.lr=") for word in arguments or [])
        text = "" if _has_recipe(arguments) or sets_rate else BARE_INNER_LRS
    try:
        return sorted({float(part) for part in words(text)})
    except ValueError as error:
        raise MamlError("--inner-lrs", expected="numbers separated by commas, as in 0.1,0.3", got=repr(text)) from error


def _has_recipe(arguments: list[str] | None) -> bool:
    return bool(arguments) and ("=" not in arguments[0] or Path(arguments[0]).exists())  # type: ignore[index]


def _run_of(arguments: list[str] | None) -> Path | None:
    """Return the run directory that the first argument is, or None."""
    from mamlcli.recipe_files import shipped_recipes

    first = Path(arguments[0]) if arguments else None
    if first is None or not first.is_dir():
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
        from mamlcli.rundir import RunDirectory

        source = RunDirectory.open(run)
        _, recipe = recipe_and_overrides([str(run / "recipe.yaml"), *(arguments or [])[1:]], device)
        return source.name, recipe
    return recipe_and_overrides(arguments if _has_recipe(arguments) else [*BARE, *(arguments or [])], device)


# Running and showing -------------------------------------------------------------------------------------------


def study(sweep: Sweep, directory: Path | None, jobs: int | None, *, as_json: bool, with_capacity: bool | None) -> None:
    """Check a study, run what is missing of it, write and show its result.

    Raises:
        MamlError: what cannot run, before anything does; at the end, cells that failed.
    """
    from mamlcli.study_api import run_study

    warn_about_selection(sweep.recipe)
    warn_about_jobs(jobs)
    progress: list[SweepProgress] = []
    folders: list[Path] = []

    def begin(path: Path, num_processes: int, was_there: bool) -> None:
        folders.append(path)
        progress.append(SweepProgress(sweep, num_processes))
        console.note(f"{'continuing' if was_there else 'study in'} {path}: {progress[0].plan}")

    try:
        result = run_study(
            sweep, directory, jobs=jobs, with_capacity=with_capacity, command=again, on_begin=begin,
            on_end=lambda end: progress[0].show(end),
        )  # fmt: skip
    except Interrupted as error:
        continues = f" Continue: {again(folders[0])}" if folders else ""
        raise Interrupted(f"interrupted; what was done is saved.{continues}") from error
    show_study(result, folders[0], as_json)
    _raise_failures(result, folders[0], again(folders[0]))


def again(path: Path) -> str:
    """Return the command that continues this study."""
    parts = ["mamlcli", *sys.argv[1:]]
    is_named = any(part == "--dir" or part.startswith("--dir=") for part in parts)
    return shlex.join(parts if is_named else [*parts, "--dir", str(path)])


def warn_about_jobs(jobs: int | None) -> None:
    """Warn where more processes are asked for than there are cores."""
    from mamlcli.sweep import num_cores

    if jobs is not None and jobs > num_cores():
        console.warn(f"--jobs {jobs}: there are {num_cores()} cores; more processes than that wait for each other")


class SweepProgress:
    """One line on stderr for each cell that ends, with the time that is left."""

    def __init__(self, sweep: Sweep, num_workers: int) -> None:
        seeds = f"{sweep.num_seeds} seed{'s' if sweep.num_seeds != 1 else ''}"
        rates = f" x {len(sweep.inner_lrs)} inner learning rates" if sweep.inner_lrs else ""
        self.plan = f"{len(sweep.values)} values{rates} x {seeds}, {num_workers} at a time"
        self._num_workers = num_workers
        self._walls: list[float] = []

    def show(self, end: CellEnd) -> None:
        """Show one cell."""
        from mamlcli.tables import PERCENT, duration

        text = f"[{end.num_ended}/{end.num_total}] {end.label}: "
        if end.scores is not None:
            loss = end.scores.mean("loss")
            text += f"loss {loss:.3f}" if math.isfinite(loss) else "loss not finite"
            if "accuracy" in end.scores:
                text += f", accuracy {PERCENT * end.scores.mean('accuracy'):.1f} %"
        elif end.status != "done":
            # Of a divergence the iteration is enough here; the end of the study says all of it.
            reason = end.reason.partition(":")[0] if end.status == "diverged" else end.reason
            text += f"{end.status}: {reason}" if reason else end.status
        else:
            text += "done"
        if end.status == "skipped":
            text += " (was done)"
        elif end.status != "interrupted":
            self._walls.append(end.wall_s)
            left = sum(self._walls) / len(self._walls) * (end.num_total - end.num_ended) / self._num_workers
            text += f" ({duration(end.wall_s)}" + (f"; about {duration(left)} left)" if left > 0 else ")")
        console.note(Text(text))


def show_study(result: StudyResult, path: Path, as_json: bool) -> None:
    """Show a study's tables and what they say, or its JSON."""
    from mamlcli.study_tables import study_tables, study_verdict

    if as_json:
        console.result_json(result.to_json())
        return
    for table in study_tables(result):
        console.result(table)
    console.result(study_verdict(result))
    console.note(f"\nFigure: {path}/figure.png; numbers: {path}/result.json, {path}/table.csv")


def _raise_failures(result: StudyResult, path: Path, command: str) -> None:
    if result.failures:
        listed = "; ".join(f"{label}: {reason}" for label, reason in result.failures)
        raise MamlError(str(path), expected="every cell to finish",
                        got=f"{len(result.failures)} that failed. {listed}",
                        next_step=f"The others are done. Try these again: {command}")  # fmt: skip
    records = [cell.collapse.worst for cell in result.cells if cell.collapse]
    if apart := [record for record in records if not record.agrees]:
        raise MamlError(str(path), expected="collapsed models with the outputs of their stacks",
                        got=f"a relative difference of {apart[0].largest_relative_difference:.1e}",
                        why="The stack's products cancel beyond the precision",
                        next_step="Set execution.dtype=float64")  # fmt: skip


def _show_collapse(run: Path | None, out: Path, as_json: bool) -> None:
    """Export a run collapsed, and say how far the collapsed model is from the stack."""
    from mamlcli.studies import export_collapsed

    if run is None:
        raise MamlError("--collapse", expected="a run directory as first argument", got="none",
                        next_step="As in: mamlcli add-linear runs/NAME --collapse OUT.safetensors")  # fmt: skip
    record = export_collapsed(run, out)
    if as_json:
        console.result_json(record.to_json())
        return
    console.result(
        f"{out}: {record.num_parameters:,} parameters collapsed to {record.num_parameters_collapsed:,}; the "
        f"largest difference of outputs on {record.num_tasks} adapted tasks is "
        f"{record.largest_relative_difference:.1e} of the largest output (allowed: {record.tolerance:.0e})"
    )
