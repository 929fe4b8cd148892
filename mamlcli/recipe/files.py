"""Recipes are read from YAML here, with dotted overrides and every error at once, and written as YAML."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mamlcli.common.errors import RecipeError
from mamlcli.common.words import nearest
from mamlcli.recipe.problems import Draft, KeyPath, problem
from mamlcli.recipe.rules import conflicts
from mamlcli.recipe.schema import Recipe

_MERGE_TAG = "tag:yaml.org,2002:merge"  # of the key <<, which takes over the keys of another mapping


class _Loader(yaml.SafeLoader):
    """Loads YAML safely, reads 1e-3 as a number and refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE_TAG:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(problem="a key that is no name", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 wants a dot in a float; people write 1e-3.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def shipped_dir() -> Path:
    """Return the folder of the shipped recipes, which is in the installed package or, in a checkout, beside it."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def shipped_recipes() -> dict[str, Path]:
    """Return the shipped recipes by name, sorted."""
    return {path.stem: path for path in sorted(shipped_dir().glob("*.yaml"))}


def find_recipe(name_or_path: str) -> Path:
    """Return the file of a recipe that is named by its path or, if it is shipped, by its name.

    Raises:
        RecipeError: neither; the message names the nearest shipped recipe.
    """
    if not name_or_path.strip():
        raise RecipeError(
            ["RECIPE: expected a recipe file or a shipped recipe, got an empty name. Run: mamlcli recipes ls"]
        )
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    shipped = shipped_recipes()
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
    """Return the first line of a recipe file, a comment that says what the recipe is; empty where there is none."""
    first = path.read_text().splitlines()[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def load_recipe(
    name_or_path: str, overrides: Iterable[str] = (), *, overridden_by: str = "command line"
) -> tuple[str, Recipe]:
    """Read a recipe, apply dotted overrides and check all of it.

    Args:
        name_or_path: a file, or the name of a shipped recipe.
        overrides: `key.path=value` strings; values are read as YAML.
        overridden_by: how messages name the place of the overrides.

    Returns:
        The recipe's name (the file's stem) and the resolved recipe.

    Raises:
        RecipeError: with every problem there is, each with its place.
    """
    draft = _read(find_recipe(name_or_path))
    draft.overridden_by = overridden_by
    problems = [wrong for text in overrides if (wrong := _override(draft, text))]
    recipe, schema_problems = _validated(draft)
    problems += schema_problems
    if problems or recipe is None:
        raise RecipeError(problems)
    return draft.name, recipe.resolved()


def recipe_from_tree(tree: dict[str, object], where: str = "recipe") -> Recipe:
    """Return the resolved recipe of a tree of Python values, once all of it is checked."""
    recipe, problems = _validated(Draft(where, where, tree))
    if recipe is None or problems:
        raise RecipeError(problems)
    return recipe.resolved()


def recipe_to_tree(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as a tree of dicts, lists, texts and numbers, with every key, and its reference if it has one."""
    return recipe.model_dump(mode="json", exclude=None if recipe.reference else {"reference"})


def recipe_to_yaml(recipe: Recipe) -> str:
    """Return a recipe as YAML that `load_recipe` reads back to an equal recipe."""
    return yaml.safe_dump(recipe_to_tree(recipe), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> Draft:
    """Return the draft of a file; one that is not YAML, is empty, or is binary is an error."""
    where = str(path)
    next_step = "Run: mamlcli recipes cp glyphs-5way-1shot my.yaml to start from one that works"
    try:
        text = path.read_bytes().decode("utf-8")
        node = yaml.compose(text, Loader=_Loader)
        tree = yaml.load(text, Loader=_Loader)
        lines: dict[KeyPath, int] = {}
        _collect_lines(node, (), lines)
    except OSError as error:
        raise RecipeError([f"{where}: expected a readable file, got {error.strerror}."]) from error
    except UnicodeDecodeError as error:
        raise RecipeError([f"{where}: expected a YAML text file, got a binary file. {next_step}."]) from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RecipeError(
            [f"{where}{line}: expected YAML, got a syntax error: {error.problem}. {next_step}."]
        ) from error
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0]
        raise RecipeError([f"{where}: expected YAML, got a syntax error: {first}. {next_step}."]) from error
    except RecursionError as error:
        got = "one that holds itself, or has far too many levels"
        raise RecipeError([f"{where}: expected a recipe of a few levels, got {got}. {next_step}."]) from error
    except ValueError as error:  # a date that does not exist, a number of thousands of digits
        raise RecipeError([f"{where}: expected values that can be read, got {error}. {next_step}."]) from error
    if tree is None:
        raise RecipeError([f"{where}: expected a recipe, got an empty file. {next_step}."])
    if not isinstance(tree, dict):
        raise RecipeError(
            [f"{where}: expected keys and values (tasks, model, ...), got {type(tree).__name__}. {next_step}."]
        )
    return Draft(path.stem, where, tree, lines)


def _collect_lines(node: yaml.Node | None, prefix: KeyPath, lines: dict[KeyPath, int]) -> None:
    """Note the line of every key below a node."""
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            path = (*prefix, str(key_node.value))
            lines[path] = key_node.start_mark.line + 1
            _collect_lines(value_node, path, lines)


def _override(draft: Draft, text: str) -> str | None:
    """Write one override, `key.path=value`, into a draft; return what is wrong with its form, None if nothing."""
    dotted, separator, raw = text.partition("=")
    path = tuple(dotted.strip().split("."))
    if not separator or not all(path):
        return f"{draft.overridden_by}: expected key.path=value, got {text!r}. For example: inner.steps=5."
    try:
        value = yaml.load(raw, Loader=_Loader) if raw.strip() else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return f"{draft.overridden_by}: {dotted}: expected a YAML value, got {raw!r}."
    tree = draft.tree
    for key in path[:-1]:
        below = tree.get(key)
        if isinstance(below, str) and key == "transform":
            below = {"name": below}
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
        problems = [problem(draft, item) for item in error.errors()]
        return None, list(dict.fromkeys(problems))
    return recipe, [f"{draft.place(tuple(key.split('.')))}: {text}" for key, text in conflicts(recipe)]
