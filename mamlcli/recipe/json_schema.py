"""The JSON Schema of recipes is made here from the schema: editors complete, explain and check recipes by it.

It is of draft 7, the last one that all editors know. It describes a recipe as an editor sees it, by YAML 1.2: an editor
reads `path: 2024` as a number, which `mamlcli.recipe.reading` reads as the text that the key wants. So a key for a text
takes numbers, too, and one for true or false takes the words `yes`, `on` and their like.

What JSON Schema cannot say, and `mamlcli recipes check` finds:
- keys compared with one another (`outer.lr_min` is at most `outer.lr`), see `json_rules`;
- sizes of layers, and patterns that match no parameter, see `network_rules`;
- how a value was written: `5.0` for an integer, `0x10`, `1_000` (which a recipe may have), a text in quotes where
  true or false is wanted, `None`, a key that stands twice;
- NaN, and paths that no system can have.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic.json_schema import JsonSchemaValue

from mamlcli.common.files import atomic_write, json_text
from mamlcli.recipe.editors import SCHEMA_COMMENT
from mamlcli.recipe.json_rules import FALSE_WORDS, TRUE_WORDS, rule_forms
from mamlcli.recipe.keys import as_yaml
from mamlcli.recipe.plugins import plugin_names, plugin_section
from mamlcli.recipe.schema import Recipe

# An editor's message where a text does not match a pattern.
_MESSAGE = "patternErrorMessage"

_KEYS = "expected keys and values"

# Of pydantic's schemas, what is written here anew or says nothing to a person.
_REPLACED = ("title", "default", "discriminator", "oneOf", "anyOf", "$ref")


def schema_text(*, with_plugins: bool = False) -> str:
    """Return the JSON Schema of recipes as a file holds it; also of plug-ins that are installed."""
    return json_text(recipe_schema(with_plugins=with_plugins))


def recipe_schema(*, with_plugins: bool = False) -> JsonSchemaValue:
    """Return the JSON Schema of recipes: keys, meanings, defaults, bounds, closed sets, rules between keys."""
    written = Recipe.model_json_schema()
    whole = _Walk(written.pop("$defs"), with_plugins=with_plugins).section(written, "")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": SCHEMA_COMMENT,
        "title": "mamlcli recipe",
        "type": "object",
        **whole,
        "allOf": rule_forms(),
    }


class _Walk:
    """Walks through pydantic's schema of recipes, and writes each part so that editors say one clear thing of it."""

    def __init__(self, definitions: JsonSchemaValue, *, with_plugins: bool) -> None:
        self.definitions = definitions
        self.with_plugins = with_plugins

    def node(self, node: JsonSchemaValue, path: str) -> JsonSchemaValue:
        """Return what may stand at a dotted path."""
        if "discriminator" in node:
            return self.chosen(node, path)
        sections = [part for part in (node, *node.get("anyOf", ())) if "$ref" in part]
        if not sections:
            return {"title": path, **_key(node)}
        section = self.section(self.definition(sections[0]), path)
        doc = section.pop("description")
        types = ["object", "null"] if "anyOf" in node else "object"
        # Below allOf, so that an editor that completes the section's name does not write all of its defaults.
        whole = {"title": path, "description": node.get("description", doc), "type": types, "errorMessage": _KEYS}
        if path != "inner.transform":
            return {**whole, "allOf": [section]}
        own, plugins = section["properties"]["name"]["enum"], self.of_plugins(path)
        names = {"type": ["object", "string"], **_one_of_names([*own, *plugins])}
        if not plugins:
            return {**whole, **names, "allOf": [section]}
        cases = [(own, section), *(([name], of_plugin) for name, of_plugin in plugins.items())]
        return {**whole, **names, "allOf": [_where("name", those, then, own == those) for those, then in cases]}

    def of_plugins(self, path: str) -> dict[str, JsonSchemaValue]:
        """Return the sections that plug-ins have at a path, by their names."""
        found = {}
        for name in plugin_names(path) if self.with_plugins else ():
            keys = plugin_section(path, name)
            if keys is not None:
                written = keys.model_json_schema()
                found[name] = _Walk(written.pop("$defs", {}), with_plugins=False).section(written, path)
        return found

    def section(self, section: JsonSchemaValue, path: str) -> JsonSchemaValue:
        """Return a section with its keys; others are refused."""
        prefix = f"{path}." if path else ""
        keys = {name: self.node(below, f"{prefix}{name}") for name, below in section["properties"].items()}
        needed = {"required": section["required"]} if "required" in section else {}
        return {"description": section["description"], "properties": keys, **needed, "additionalProperties": False}

    def chosen(self, node: JsonSchemaValue, path: str) -> JsonSchemaValue:
        """Return a section that its tag chooses, tasks.source or model.kind: its other keys depend on the tag."""
        tag = node["discriminator"]["propertyName"]
        sections = [self.section(self.definition(part), path) for part in node["oneOf"]]
        sections += self.of_plugins(path).values()
        described = {"title": f"{path}.{tag}", "description": f"{tag} of the {path}"}
        names = []
        for section in sections:
            section["properties"][tag] = {**described, **_closed(section["properties"][tag])}
            names.append(section["properties"][tag]["enum"])
        return {
            "title": path,
            "description": f"{path}; the other keys depend on {path}.{tag}",
            "type": "object",
            "properties": {tag: {**described, "enum": [name for those in names for name in those]}},
            "required": [tag],
            "allOf": [_where(tag, those, section, False) for those, section in zip(names, sections, strict=True)],
        }

    def definition(self, node: JsonSchemaValue) -> JsonSchemaValue:
        """Return the section that a reference names."""
        found: JsonSchemaValue = self.definitions[node["$ref"].rpartition("/")[2]]
        return found


def _key(node: JsonSchemaValue) -> JsonSchemaValue:
    """Return what a key may hold: one flat schema without alternatives, of which editors would list every failure."""
    parts = node.get("anyOf", [node])
    # The first type is the one that editors take a default for; the YAML language server fails at null for a text.
    types = sorted((part["type"] for part in parts), key=lambda name: name != "null")
    key = {name: value for part in (*parts, node) for name, value in part.items() if name not in _REPLACED}
    key = _closed(key)
    if "enum" in key and "null" in types:
        key["enum"] = [*key["enum"], None]
    key |= {"type": types[0] if len(types) == 1 else types}
    if "default" in node:
        key["default"] = node["default"]
        key["description"] += f". Default: {as_yaml(node['default'])}" if node["default"] is not None else ""
    if "boolean" in types or "yes" in key.get("enum", ()):
        return _with_words(key)
    if "array" in types and "enum" in key["items"]:
        return _or_one(key)
    if "string" in types and "pattern" in key:
        key[_MESSAGE] = f"expected a text such as {', '.join(key['examples'])}"
    elif "string" in types and "enum" not in key:
        key["type"] = [*types, "number", "boolean"]
    return key


def _closed(key: JsonSchemaValue) -> JsonSchemaValue:
    """Return a key with a list of values in the place of a single one."""
    return {("enum" if name == "const" else name): [value] if name == "const" else value for name, value in key.items()}


def _with_words(key: JsonSchemaValue) -> JsonSchemaValue:
    """Return a key for true or false, or for names beside them, that takes all words that YAML 1.1 has for these."""
    names = key.pop("enum", [])
    key["type"] = ["boolean", "string"]
    if names:
        key["examples"] = names
    key["pattern"] = _any_of(*names, *TRUE_WORDS, *FALSE_WORDS)
    key[_MESSAGE] = f"expected {', '.join(names)}, true or false" if names else "expected true or false"
    return key


def _or_one(key: JsonSchemaValue) -> JsonSchemaValue:
    """Return a key for a list of names that takes one name alone, too."""
    names = key["items"]["enum"]
    return {**key, "type": ["array", "string"], "uniqueItems": True, **_one_of_names(names)}


def _where(tag: str, names: list[str], then: JsonSchemaValue, may_lack: bool) -> JsonSchemaValue:
    """Return that a section is this one where its tag is one of some names, or is left out, where it may be."""
    needed = {} if may_lack else {"required": [tag]}
    return {"if": {"properties": {tag: {"enum": names}}, **needed}, "then": then}


def _one_of_names(names: list[str]) -> JsonSchemaValue:
    return {"pattern": _any_of(*names), _MESSAGE: f"expected one of {', '.join(names)}", "examples": names}


def _any_of(*words: str) -> str:
    """Return a pattern that takes these words, which have no characters of their own meaning in patterns, alone."""
    return f"^({'|'.join(dict.fromkeys(words))})$"


if __name__ == "__main__":
    atomic_write(Path(sys.argv[1]), schema_text().encode())
