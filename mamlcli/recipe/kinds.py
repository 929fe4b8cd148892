"""The types of the values of keys, in words, by which YAML is read: what is written for a text is that text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from mamlcli.recipe.keys import RecipeKey, keys_of_plugin, known_keys

KeyPath = tuple[str, ...]

Kinds = Mapping[KeyPath, frozenset[str]]


def kinds_of(tags: Mapping[str, str]) -> Kinds:
    """Return what every key may hold, of all sources and models: those that share a key share its type.

    Args:
        tags: as in `keys.section_at`; where they name plug-ins, their keys are known, too.
    """
    sections = [section for path in tags if (section := keys_of_plugin(path, tags)) is not None]
    of_plugins = _kinds({key.name: key for section in sections for key in section.keys}.values())
    return {**_all_kinds(), **of_plugins} if of_plugins else _all_kinds()


@lru_cache
def _all_kinds() -> Kinds:
    kinds = _kinds(known_keys({}).values())
    kinds["inner", "transform"] = frozenset({"text", "section"})
    return kinds


def _kinds(keys: Iterable[RecipeKey]) -> dict[KeyPath, frozenset[str]]:
    kinds: dict[KeyPath, frozenset[str]] = {}
    for key in keys:
        path = tuple(key.name.split("."))
        of_key = {_kind_of(word) for word in key.types} or {"text"}  # a tag has no types; it is a name
        if "yes" in key.values or "true or false" in of_key:  # words such as on and off stay known
            of_key -= {"text"}
        kinds[path] = frozenset(of_key)
        if "texts" in of_key:
            of_entries = (*path, "")
            kinds[of_entries] = frozenset({"text"})
    return kinds


def _kind_of(words: str) -> str:
    """Return one of a key's types, which the reference has in words."""
    if words.startswith("list of"):
        return "texts"
    if words in ("integer", "number", "text", "true or false"):
        return words
    name = words.strip("`")
    return "null" if name == "null" else "integer" if name.isdecimal() else "text"
