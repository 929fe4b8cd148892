"""Recipes as an editor sees and checks them: read by YAML 1.2's core schema, checked by the JSON Schema."""

from __future__ import annotations

import re
from functools import cache

import jsonschema
import yaml

from mamlcli.common.errors import RecipeError
from mamlcli.recipe.files import load_recipe
from mamlcli.recipe.json_schema import recipe_schema


class _CoreLoader(yaml.SafeLoader):
    """Reads scalars as YAML 1.2 says: `yes` and `1_000` are texts, `1e-3` is a number, `010` is ten."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (a table of PyYAML, which is a class's own)


# https://yaml.org/spec/1.2.2/#1032-tag-resolution
for _name, _pattern in {
    "null": r"null|Null|NULL|~|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": "<<",
}.items():
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), None)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value, 10 if node.value.lstrip("+-").isdecimal() else 0)


_CoreLoader.add_constructor("tag:yaml.org,2002:int", _integer)


def editor_tree(text: str) -> object:
    """Return the values of a YAML text as an editor reads them."""
    return yaml.load(text, Loader=_CoreLoader)


@cache
def validator() -> jsonschema.Draft7Validator:
    """Return the validator of recipes."""
    jsonschema.Draft7Validator.check_schema(recipe_schema())
    return jsonschema.Draft7Validator(recipe_schema())


def keys_refused_by_editor(text: str) -> set[str]:
    """Return the dotted keys at which an editor underlines a recipe; an entry of a list is named by its list."""
    return {key for error in validator().iter_errors(editor_tree(text)) for key in _keys_of(error)}


def _keys_of(error: jsonschema.ValidationError) -> list[str]:
    path = [part for part in error.absolute_path if isinstance(part, str)]
    names: list[str] = []
    if error.validator == "required":
        names = [name for name in error.validator_value if name not in error.instance]
    elif error.validator == "additionalProperties":
        names = [name for name in error.instance if name not in error.schema["properties"]]
    return [".".join((*path, str(name))) for name in names] if names else [".".join(path)]


def keys_refused_by_reader(path: str) -> set[str]:
    """Return the dotted keys of a recipe file that the reader refuses."""
    try:
        load_recipe(path)
    except RecipeError as error:
        return {_key_of(problem) for problem in error.problems}
    return set()


def _key_of(problem: str) -> str:
    """Return the key of `<file>:<line>: <key>: expected ...`; the whole where it names none."""
    found = re.match(r"[^ ]+: ([a-z0-9_.<>A-Z-]+): expected ", problem)
    return found[1] if found else problem
