"""`mamlcli layers` shows which layers adapt, and what the upper ones do to gradients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import console
from mamlcli.cli.options import DeviceOption, JsonOption, RunArgument, SplitOption, place_to_write
from mamlcli.common.errors import MamlError
from mamlcli.common.names import PATH_KEY, RUNS
from mamlcli.runs.models import is_model

PlaceArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[tasks.path=PLACE]", help="Where the run's data are now.")
]


if TYPE_CHECKING:
    from mamlcli.runs.folder import RunDirectory


def layers(
    run: RunArgument,
    arguments: PlaceArguments = None,
    tasks: Annotated[int, typer.Option(min=2, help="Tasks that every mean is over.")] = 200,
    split: SplitOption = None,
    device: DeviceOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for layers.png and layers.svg; by default the run's, of a shipped model runs/NAME-layers.",
            show_default=False,
            callback=place_to_write,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which layers of a trained run adapt, and what the upper ones do to gradients.

    (1) how far each layer moves; (2) scores when only the lower or the upper layers may move; (3) for heads of
    several linear layers, what they do to each other's gradients, with the best operator where it is known;
    (4) the bottom layers' update in the full network beside the one through a head alone. Also draws them.

    Examples:

      mamlcli layers runs/glyphs-5way-1shot-1

      mamlcli layers runs/linear-regression-1 --tasks 600 --json

      mamlcli layers glyphs-5way-1shot@1
    """
    from mamlcli.runs.folder import RunDirectory
    from mamlcli.studies.layers.figure import save_layers
    from mamlcli.studies.layers.report import layers_report
    from mamlcli.studies.layers.tables import layer_parts

    opened = RunDirectory.open(run)
    console.note(f"studying {run} on {tasks} tasks")
    report = layers_report(opened, device=device, num_tasks=tasks, split=split, changes=place_words(arguments))
    pictures = save_layers(report, out or own_folder(opened))
    console.note(f"Written: {', '.join(str(path) for path in pictures)}")
    console.show(report, layer_parts)


def place_words(arguments: list[str] | None) -> list[str]:
    """Return the words `tasks.path=PLACE`, once no other is among them."""
    for word in arguments or []:
        if not word.startswith(f"{PATH_KEY}="):
            raise MamlError(
                word, expected=f"{PATH_KEY}=PLACE", got="another word", next_step="See: mamlcli layers --help"
            )
    return list(arguments or [])


def own_folder(run: RunDirectory) -> Path:
    """Return the folder for what is made of a run: its own; of a shipped model, one below runs/."""
    return RUNS / f"{run.label}-layers" if is_model(run.path) else run.path
