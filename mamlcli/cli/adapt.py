"""`mamlcli adapt`: adapt a trained run to unseen tasks and show the curve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mamlcli.cli import console
from mamlcli.cli.common import DeviceOption, JsonOption


def adapt(
    run: Annotated[Path, typer.Argument(help="A run directory, such as runs/glyphs-5way-1shot-1.")],
    tasks: Annotated[
        int | None,
        typer.Option(min=2, help="Tasks to score; by default the recipe's (600).", show_default=False),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Inner steps; more than in training is fine.", show_default=False),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, validation or test; by default the recipe's.", show_default=False),
    ] = None,
    device: DeviceOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write curve.png, tasks.csv and evaluation.json to this folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Adapt a trained run to tasks it has never seen; show loss and accuracy at every inner step.

    The tasks are those of evaluation.seed, the same for every run, so that runs can be compared. The run's own
    files are not changed; --out keeps the new result.

    Examples:

      mamlcli adapt runs/glyphs-5way-1shot-1

      mamlcli adapt runs/glyphs-5way-1shot-1 --steps 10 --out longer

      mamlcli adapt runs/glyphs-5way-1shot-1 --split train --tasks 200 --json
    """
    from mamlcli.rundir import RunDirectory
    from mamlcli.session import adapt_run, write_evaluation
    from mamlcli.tables import curve_table, verdict

    evaluation, report = adapt_run(RunDirectory.open(run), device=device, num_tasks=tasks, num_steps=steps, split=split)
    if out is not None:
        write_evaluation(out, evaluation, report)
        console.note(f"Written: {out}/evaluation.json, tasks.csv, curve.png")
    if as_json:
        console.result_json(report)
        return
    console.result(curve_table(report))
    console.result(verdict(report))
