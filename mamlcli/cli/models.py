"""`mamlcli models` lists and shows the trained models that ship with mamlcli."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.options import JsonOption
from mamlcli.runs.models import card_sections, model_folder, shipped_models

if TYPE_CHECKING:
    from mamlcli.runs.entry import RunEntry


app = typer.Typer(help="List and show the trained models that ship with mamlcli.", no_args_is_help=True)


@app.command("ls")
def ls(as_json: JsonOption = False) -> None:
    """List the trained models that ship with mamlcli: tasks, result, seed, training time, size.

    A model's name stands wherever a RUN does, and in mamlcli.load. What is in a model is never changed.

    Examples:

      mamlcli models ls

      mamlcli models ls --json
    """
    from mamlcli.runs.entry import read_run
    from mamlcli.runs.model_tables import model_row, models_table

    models = [read_run(folder) for folder in shipped_models().values()]
    console.show(models, lambda models: [models_table(models)], to_json=lambda models: list(map(model_row, models)))


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A model of mamlcli models ls.", autocompletion=complete.model)],
    as_json: JsonOption = False,
) -> None:
    """Show everything about one model: how it was trained, its recipe, result and limits.

    Examples:

      mamlcli models show glyphs-5way-1shot@1

      mamlcli models show glyphs-5way-1shot@1 --json
    """
    from mamlcli.runs.entry import read_run
    from mamlcli.runs.model_tables import model_record

    console.show(read_run(model_folder(name)), model_parts, to_json=model_record)


def model_parts(model: RunEntry) -> Iterator[console.Part]:
    """Yield what is known of a model as of a run, then what its model card says of data, limits and use."""
    from rich.markdown import Markdown

    from mamlcli.runs.tables import run_parts

    yield from run_parts(model)
    yield ""
    yield Markdown(card_sections(model.path, ("Data", "Limits", "How to use")))
