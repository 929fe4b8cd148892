"""`mamlcli recipes` lists, shows, copies, checks and verifies recipes, and prints their schema for editors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mamlcli.cli import complete, console
from mamlcli.cli.options import JsonOption, place_to_write
from mamlcli.cli.verify import verify
from mamlcli.common.commands import command
from mamlcli.common.disk import write_error
from mamlcli.common.errors import MamlError, RecipeError, RunError
from mamlcli.common.files import atomic_write
from mamlcli.recipe.editors import SCHEMA_FILE, editor_line, with_editor_line, write_schema

app = typer.Typer(help="List, show, copy, check and verify recipes.", no_args_is_help=True)


RecipeArgument = Annotated[str, typer.Argument(help="A shipped recipe or a file.", autocompletion=complete.recipe)]


@app.command("ls")
def ls(as_json: JsonOption = False) -> None:
    """List the shipped recipes, and those of installed packages.

    Examples:

      mamlcli recipes ls

      mamlcli recipes ls --json
    """
    from mamlcli.recipe.files import named_recipes, recipe_summary

    rows = [
        {"name": name, "summary": recipe_summary(path), "reference": reference_json(name)}
        for name, path in named_recipes().items()
    ]
    console.show(rows, recipe_parts)


def reference_json(recipe: str) -> dict[str, object] | None:
    """Return the number that a recipe should reproduce, as JSON; None where it names none."""
    from mamlcli.recipe.files import load_recipe

    reference = load_recipe(recipe)[1].reference
    return None if reference is None else reference.model_dump(mode="json")


def recipe_parts(rows: Sequence[Mapping[str, object]]) -> list[Table]:
    """Return the list of recipes as a table."""
    from mamlcli.common.tables import plain_table

    caption = (
        "recipes show NAME tells what to expect, train NAME runs it, recipes verify NAME compares it with a number"
    )
    table = plain_table(caption=caption)
    table.add_column("recipe", no_wrap=True)
    table.add_column("what it is")
    for row in rows:
        table.add_row(str(row["name"]), str(row["summary"]))
    return [table]


@app.command("show")
def show(
    recipe: RecipeArgument,
    resolved: Annotated[bool, typer.Option("--resolved", help="Every key, defaults filled in.")] = False,
) -> None:
    """Print a recipe.

    Examples:

      mamlcli recipes show linear-regression

      mamlcli recipes show my.yaml --resolved
    """
    from mamlcli.recipe.files import find_recipe, load_recipe, recipe_text, recipe_to_yaml

    if resolved:
        console.result_text(recipe_to_yaml(load_recipe(recipe)[1]))
    else:
        load_recipe(recipe)
        console.result_text(recipe_text(find_recipe(recipe)))


@app.command("cp")
def cp(
    recipe: RecipeArgument,
    target: Annotated[Path, typer.Argument(help="The new file, such as my.yaml.", callback=place_to_write)],
) -> None:
    """Copy a recipe to a file of your own, to change it; beside it comes the schema by which editors check it.

    Examples:

      mamlcli recipes cp glyphs-5way-1shot my.yaml
    """
    from mamlcli.recipe.files import find_recipe, load_recipe, recipe_text

    load_recipe(recipe)
    if target.exists():
        raise RunError(str(target), expected="a new file", got="one that exists", next_step="Name another")
    try:
        atomic_write(target, with_editor_line(recipe_text(find_recipe(recipe))).encode())
    except OSError as error:
        raise write_error(error, str(target), expected="a place that can be written") from error
    console.note(f"Written: {target}. Next: {command('train', target)}")
    _write_beside(target.parent / SCHEMA_FILE, target)


def _write_beside(schema: Path, recipe: Path) -> None:
    """Write the schema that editors check a recipe by beside it; where that cannot be, the recipe is good without."""
    from mamlcli.recipe.json_schema import schema_text

    try:
        if write_schema(schema, schema_text(with_plugins=True)):
            console.note(f"Written: {schema}, by which editors complete and check {recipe.name}")
    except MamlError as error:
        console.warn(f"{error} Editors will not check {recipe.name} as it stands.")


@app.command("schema")
def schema(
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write; by default the terminal.", show_default=False, callback=place_to_write),
    ] = None,
) -> None:
    """Print the JSON Schema of recipes, by which editors complete and check them; installed plug-ins are in it.

    Examples:

      mamlcli recipes schema

      mamlcli recipes schema --out recipe.schema.json
    """
    from mamlcli.recipe.json_schema import schema_text

    if out is None:
        console.result_text(schema_text(with_plugins=True))
        return
    write_schema(out, schema_text(with_plugins=True))
    console.note(f"Written: {out}. Recipes beside it name it in their first line: {editor_line(out.name).rstrip()}")


@app.command("check")
def check(
    recipes: Annotated[list[str], typer.Argument(help="Shipped recipes or files.", autocompletion=complete.recipe)],
) -> None:
    """Check recipes: every key, type and bound; all errors of all files at once.

    Examples:

      mamlcli recipes check my.yaml

      mamlcli recipes check my.yaml other.yaml logistic
    """
    from mamlcli.recipe.files import load_recipe

    problems: list[str] = []
    for recipe in recipes:
        try:
            load_recipe(recipe)
        except RecipeError as error:
            problems += error.problems
        else:
            console.result(f"{recipe}: ok")
    if problems:
        raise RecipeError(problems)


app.command("verify")(verify)
