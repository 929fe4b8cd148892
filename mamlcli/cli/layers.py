"""`mamlcli layers`: which layers adapt, and what the upper ones do to gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.options import DeviceOption, JsonOption
from mamlcli.common.names import SPLITS


def layers(
    run: Annotated[
        Path,
        typer.Argument(help="A run directory, such as runs/glyphs-5way-1shot-1.", autocompletion=complete.run),
    ],
    tasks: Annotated[int, typer.Option(min=2, help="Tasks that every mean is over.")] = 200,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, validation or test; by default the recipe's.",
            show_default=False,
            autocompletion=complete.one_of(*SPLITS),
        ),
    ] = None,
    device: DeviceOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for layers.png and layers.svg; by default the run's.", show_default=False),
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
    """
    from mamlcli.runs.folder import RunDirectory
    from mamlcli.studies.layers.figure import save_layers
    from mamlcli.studies.layers.report import layers_report
    from mamlcli.studies.layers.tables import layer_parts

    opened = RunDirectory.open(run)
    console.note(f"studying {run} on {tasks} tasks")
    report = layers_report(opened, device=device, num_tasks=tasks, split=split)
    pictures = save_layers(report, out or opened.path)
    console.note(f"Written: {', '.join(str(path) for path in pictures)}")
    console.show(report, layer_parts)
