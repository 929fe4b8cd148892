"""Recipes are read from YAML here, with dotted overrides and every error at once, and written as YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mamlcli.common.bounded import BoundError, read_regular
from mamlcli.common.errors import RecipeError
from mamlcli.common.files import TextFileError, expanded, text_of
from mamlcli.common.plugins import named_trackers, tracker_names, unknown_tracker
from mamlcli.common.words import brief, composed, nearest, shown
from mamlcli.recipe.editors import without_editor_line
from mamlcli.recipe.habits import without_habits
from mamlcli.recipe.keys import tag_names, tags_of
from mamlcli.recipe.plugins import GROUPS, plugin_recipes
from mamlcli.recipe.problems import Draft, problem
from mamlcli.recipe.reading import syntax_hint, tree_of, value_of
from mamlcli.recipe.rules import conflicts
from mamlcli.recipe.schema import Recipe

# A recipe with every key and comments has a few kilobytes; one of this size takes seconds to read.
MOST_BYTES = 256_000

_MOST_PROBLEMS = 50

# The file beside the recipe of a run.
MANIFEST = "manifest.json"

_NEXT_STEP = "To start from one that works: mamlcli recipes cp glyphs-5way-1shot my.yaml"


class _Dumper(yaml.SafeDumper):
    """Writes texts so that they are read back: None in quotes, in which it is no mistake for null."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Outside of double quotes PyYAML folds these as if they were line ends.
    style = '"' if re.search("[\x85\u2028\u2029\ufeff]", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_implicit_resolver("!none-word", re.compile("None$"), ["N"])
_Dumper.add_representer(str, _text_node)


def shipped_dir() -> Path:
    """Return the folder of the shipped recipes, which is in the installed package or, in a checkout, beside it."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def shipped_recipes() -> dict[str, Path]:
    """Return the shipped recipes by name, sorted."""
    return {path.stem: path for path in sorted(shipped_dir().glob("*.yaml"))}


def named_recipes() -> dict[str, Path]:
    """Return the recipes that have names: the shipped ones, then those of installed packages."""
    shipped = shipped_recipes()
    return shipped | {name: path for name, path in plugin_recipes().items() if name not in shipped}


def find_recipe(name_or_path: str) -> Path:
    """Return the file of a recipe that is named by its path or, if it is shipped, by its name.

    Raises:
        RecipeError: neither; the message names the nearest shipped recipe.
    """
    if not name_or_path.strip():
        raise RecipeError(
            ["RECIPE: expected a recipe file or a shipped recipe, got an empty name. Run: mamlcli recipes ls"]
        )
    path = expanded(name_or_path)
    if path.is_file():
        return path
    shipped = named_recipes()
    if name_or_path in shipped:
        return shipped[name_or_path]
    if path.is_dir():
        raise RecipeError([f"{name_or_path}: expected a recipe file, got a folder. Run: mamlcli recipes ls"])
    raise RecipeError(
        [
            f"{name_or_path}: expected a recipe file or the name of a shipped recipe, got neither."
            f"{nearest(name_or_path, shipped, cutoff=0.4)} Run: mamlcli recipes ls"
        ]
    )


def recipe_summary(path: Path) -> str:
    """Return the first line of a recipe file, a comment that says what the recipe is; empty where there is none.

    A line for editors does not count.
    """
    first = without_editor_line(recipe_text(path)).partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def load_recipe(
    name_or_path: str,
    overrides: Iterable[str] = (),
    *,
    overridden_by: str = "command line",
    rewritten: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> tuple[str, Recipe]:
    """Read a recipe, apply dotted overrides and check all of it.

    Args:
        name_or_path: a file, or the name of a shipped recipe.
        overrides: `key.path=value` strings; texts count as they are, other values are read as YAML.
        overridden_by: how messages name the place of the overrides.
        rewritten: called with the tree of the file before the overrides; returns the one to use.

    Returns:
        The recipe's name (the file's stem) and the resolved recipe.

    Raises:
        RecipeError: with every problem there is, each with its place.
    """
    path = find_recipe(name_or_path)
    draft = _read(path)
    draft.overridden_by, draft.tree = overridden_by, rewritten(draft.tree)
    words, unlike_ours = without_habits(overrides)
    problems = [f"{overridden_by}: {text}" for text in unlike_ours]
    problems += [wrong for text in words if (wrong := _override(draft, text))]
    recipe, schema_problems = _validated(draft)
    problems += schema_problems
    # What a run names was there when it was made; where it is not, the run can be read all the same.
    if recipe is not None and (("logging",) in draft.overridden or not (path.parent / MANIFEST).is_file()):
        problems += _unknown_trackers(draft, recipe)
    if problems or recipe is None:
        raise RecipeError([*problems, *_packages_of_run(path.parent / MANIFEST, draft.tree)])
    return draft.name, recipe.resolved()


def _packages_of_run(manifest: Path, tree: dict[str, object]) -> list[str]:
    """Return which packages have the plug-ins of a run's recipe that are not installed, as its manifest notes them."""
    missing = {path: tag for path, tag in tags_of(tree).items() if path in GROUPS and tag not in tag_names(path)}
    try:
        noted = json.loads(read_regular(manifest, at_most=MOST_BYTES * 100)) if missing else {}
        names: dict[tuple[str, str], list[str]] = {}
        for path in missing:
            if path in noted.get("plugins", ()):
                plugin = noted["plugins"][path]
                names.setdefault((plugin["package"], plugin["version"]), []).append(plugin["name"])
        return [
            f"{shown(manifest)}: expected {', '.join(of_package)} of the package {package} {version}, got none."
            f" Run: pip install {package}"
            for (package, version), of_package in names.items()
        ]
    except (OSError, BoundError, ValueError, TypeError, KeyError, AttributeError):
        return []


def _unknown_trackers(draft: Draft, recipe: Recipe) -> list[str]:
    """Return a problem for each tracker that no installed package has."""
    return [
        f"{draft.place(('logging',))}: expected {expected}, got {brief(name)}.{nearest(name, tracker_names())}"
        for name in named_trackers(recipe.logging)
        if (expected := unknown_tracker(name))
    ]


def recipe_from_tree(tree: dict[str, object], where: str = "recipe") -> Recipe:
    """Return the resolved recipe of a tree of Python values, once all of it is checked."""
    if not isinstance(tree, dict):
        raise RecipeError([f"{where}: expected keys and values (tasks, model, ...), got {brief(tree)}."])
    recipe, problems = _validated(Draft(where, where, tree))
    if recipe is None or problems:
        raise RecipeError(problems)
    return recipe.resolved()


def recipe_to_tree(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as a tree of dicts, lists, texts and numbers, with every key, and its reference if it has one."""
    return recipe.model_dump(mode="json", exclude=None if recipe.reference else {"reference"})


def recipe_to_yaml(recipe: Recipe) -> str:
    """Return a recipe as YAML that `load_recipe` reads back to an equal recipe."""
    return yaml.dump(recipe_to_tree(recipe), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def recipe_text(path: Path) -> str:
    """Return the text of a recipe file, whatever its encoding, if it can be told.

    Raises:
        RecipeError: it cannot be read, or is no text.
    """
    try:
        return text_of(read_regular(path, at_most=MOST_BYTES))
    except OSError as error:
        raise RecipeError([f"{shown(path)}: expected a readable file, got {error.strerror}."]) from error
    except BoundError as error:
        raise RecipeError([f"{shown(path)}: expected a recipe file, got {error}. {_NEXT_STEP}."]) from error
    except TextFileError as error:
        raise RecipeError([f"{shown(path)}: expected a YAML text file in UTF-8, got {error}. {_NEXT_STEP}."]) from error


def _read(path: Path) -> Draft:
    """Return the draft of a file; one that is not YAML, is empty, or is binary is an error."""
    where = shown(path)
    text = recipe_text(path)
    try:
        tree, lines = tree_of(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        wrong = f"{error.problem}.{syntax_hint(error)}"
        raise RecipeError([f"{where}{line}: expected YAML, got a syntax error: {wrong} {_NEXT_STEP}."]) from error
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0]
        raise RecipeError([f"{where}: expected YAML, got a syntax error: {first}. {_NEXT_STEP}."]) from error
    except RecursionError as error:
        got = "one that holds itself, or has far too many levels"
        raise RecipeError([f"{where}: expected a recipe of a few levels, got {got}. {_NEXT_STEP}."]) from error
    except ValueError as error:  # a number of thousands of digits
        raise RecipeError([f"{where}: expected values that can be read, got {error}. {_NEXT_STEP}."]) from error
    if tree is None:
        raise RecipeError([f"{where}: expected a recipe, got an empty file. {_NEXT_STEP}."])
    if not isinstance(tree, dict):
        raise RecipeError(
            [f"{where}: expected keys and values (tasks, model, ...), got {type(tree).__name__}. {_NEXT_STEP}."]
        )
    return Draft(composed(path.stem), where, tree, lines)


def _override(draft: Draft, text: str) -> str | None:
    """Write one override, `key.path=value`, into a draft; return what is wrong with its form, None if nothing."""
    dotted, separator, raw = text.partition("=")
    path = tuple(dotted.strip().split("."))
    if dotted != dotted.rstrip():  # spaces on both sides of the sign
        dotted, raw = dotted.strip(), raw.strip()
    if not separator or not all(path):
        return f"{draft.overridden_by}: expected key.path=value, got {brief(text)}. For example: inner.steps=5."
    try:
        value = value_of(raw, path, tags_of(draft.tree))
    except (yaml.YAMLError, ValueError, RecursionError):
        return f"{draft.overridden_by}: {dotted}: expected a YAML value, got {brief(raw)}."
    tree = draft.tree
    for position, key in enumerate(path[:-1]):
        below = tree.get(key)
        if isinstance(below, str) and key == "transform":
            below = {"name": below}
        if key in tree and not isinstance(below, dict):
            draft.overridden.add(path[: position + 1])
        section: dict[str, object] = dict(below) if isinstance(below, dict) else {}
        tree[key] = section
        tree = section
    tree[path[-1]] = value
    draft.overridden.add(path)
    return None


def _validated(draft: Draft) -> tuple[Recipe | None, list[str]]:
    """Return the recipe of a draft, None where the schema refuses it, and every problem."""
    try:
        recipe = Recipe.model_validate(draft.tree)
    except ValidationError as error:
        items = error.errors(include_url=False)
        problems = [problem(draft, item) for item in items[:_MOST_PROBLEMS]]
        num_more = len(items) - _MOST_PROBLEMS
        more = [f"{draft.where}: {num_more} more problems"] if num_more > 0 else []
        return None, [*dict.fromkeys(problems), *more]
    return recipe, [f"{draft.place(tuple(key.split('.')))}: {text}" for key, text in conflicts(recipe)]
