"""The command line: which commands there are. Imports no torch; each command imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

import mamlcli
from mamlcli.cli import console, data, recipes, runs
from mamlcli.cli.adapt import adapt
from mamlcli.cli.bench import bench
from mamlcli.cli.layers import layers
from mamlcli.cli.reproduce import reproduce
from mamlcli.cli.studies import add_linear, meta_opt, sweep_depth
from mamlcli.cli.train import train

app = typer.Typer(
    name="mamlcli",
    help="Meta-train networks that adapt to a new task in a few gradient steps, and study when they can.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("train")(train)
app.command("adapt")(adapt)
app.command("sweep-depth")(sweep_depth)
app.command("add-linear")(add_linear)
app.command("meta-opt")(meta_opt)
app.command("layers")(layers)
app.command("reproduce")(reproduce)
app.command("bench")(bench)
app.add_typer(recipes.app, name="recipes")
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")


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
    """Meta-train networks that adapt to a new task in a few gradient steps, and study when they can."""
