"""The command line: which commands there are. Imports no torch; each command imports what it needs when it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import mamlcli
from mamlcli.cli import console, data, recipes, runs
from mamlcli.cli.adapt import adapt
from mamlcli.cli.bench import bench
from mamlcli.cli.doctor import doctor
from mamlcli.cli.layers import layers
from mamlcli.cli.reproduce import reproduce
from mamlcli.cli.studies import add_linear, meta_opt, sweep_depth
from mamlcli.cli.train import train

app = typer.Typer(
    name="mamlcli",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


# What a person wants -> the commands for it, in the order of the help.
PANELS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Train and use": {"train": train, "adapt": adapt, "recipes": recipes.app},
    "The paper": {
        "sweep-depth": sweep_depth,
        "add-linear": add_linear,
        "meta-opt": meta_opt,
        "layers": layers,
        "reproduce": reproduce,
    },
    "Your runs and data": {"runs": runs.app, "data": data.app},
    "This installation": {"doctor": doctor, "bench": bench},
}


for _panel, _commands in PANELS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_command)


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
