"""The command line consists of the commands below; each imports what it needs, such as torch, only when it runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import mamlcli
from mamlcli.cli import console, data, models, recipes, runs
from mamlcli.cli.adapt import adapt
from mamlcli.cli.bench import bench
from mamlcli.cli.doctor import doctor
from mamlcli.cli.layers import layers
from mamlcli.cli.reproduce import reproduce
from mamlcli.cli.studies import add_linear, meta_opt, sweep_depth
from mamlcli.cli.train import train
from mamlcli.common.errors import Interrupted


class _Commands(TyperGroup):
    """Tells of a Ctrl-C in any command: typer says nothing or "Aborted", and ends with 130 or 1, by its version."""

    def invoke(self, *context: Any) -> object:  # type: ignore[explicit-any]  # typer names no type for it
        """Run a command."""
        try:
            return super().invoke(*context)
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted") from error


app = typer.Typer(
    name="mamlcli",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


# Commands are grouped by what a person wants, in the order of the help.
TRAIN, PAPER, YOURS, HERE = "Train and use", "The paper", "Your runs and data", "This installation"


app.command("train", rich_help_panel=TRAIN)(train)
app.command("adapt", rich_help_panel=TRAIN)(adapt)
app.add_typer(models.app, name="models", rich_help_panel=TRAIN)
app.add_typer(recipes.app, name="recipes", rich_help_panel=TRAIN)
app.command("sweep-depth", rich_help_panel=PAPER)(sweep_depth)
app.command("add-linear", rich_help_panel=PAPER)(add_linear)
app.command("meta-opt", rich_help_panel=PAPER)(meta_opt)
app.command("layers", rich_help_panel=PAPER)(layers)
app.command("reproduce", rich_help_panel=PAPER)(reproduce)
app.add_typer(runs.app, name="runs", rich_help_panel=YOURS)
app.add_typer(data.app, name="data", rich_help_panel=YOURS)
app.command("doctor", rich_help_panel=HERE)(doctor)
app.command("bench", rich_help_panel=HERE)(bench)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        console.result(f"mamlcli {mamlcli.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Meta-train networks that adapt to a new task in a few gradient steps, and study when they can.

    Examples:

      mamlcli train

      mamlcli sweep-depth glyphs-5way-1shot --depths 1,2,4

      mamlcli train --help

    TAB completes recipes, keys, values and runs, once mamlcli --install-completion was run.
    """
