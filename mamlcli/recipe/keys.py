"""One walk through the schema gives every key of recipes, for completion and the reference."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from pydantic.fields import FieldInfo

from mamlcli.common.names import CLASS_SPLITS
from mamlcli.common.plugins import tracker_names
from mamlcli.recipe.plugins import GROUPS, plugin_names, plugin_section
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.section import Section


@dataclass(frozen=True)
class RecipeKey:
    """Describes one key of recipes.

    Attributes:
        name: dotted, from the top, as in "inner.lr".
        description: what it is, a noun phrase.
        types: what its value may be, in words; a value of a closed set as `value`.
        bounds: its range, as in ">= 1".
        values: the values that the schema names, as YAML writes them.
        is_closed: whether there are no other values.
        default: as YAML writes it; None where there is none. A list is written so that YAML reads it back.
        is_list: whether the value is a list.
    """

    name: str
    description: str
    types: tuple[str, ...]
    bounds: tuple[str, ...]
    values: tuple[str, ...]
    is_closed: bool
    default: str | None
    is_list: bool


@dataclass(frozen=True)
class SectionKeys:
    """Describes one section of recipes and its keys.

    Attributes:
        path: dotted, as in "inner.transform"; empty at the top.
        doc: what the section is.
        names: of all that may stand in it, its tag and the sections below included.
        keys: of these, those that are neither.
        tag: the key that says which section stands here, "source" of tasks and "kind" of model; else empty.
        chosen_by: the values of the tag that choose this section.
    """

    path: str
    doc: str
    names: tuple[str, ...]
    keys: tuple[RecipeKey, ...]
    tag: str = ""
    chosen_by: tuple[str, ...] = ()

    def stands_for(self, tags: Mapping[str, str]) -> bool:
        """Return whether recipes with these tags, {"tasks": source, "model": kind}, have this section."""
        return not self.tag or tags.get(self.path) in self.chosen_by


@lru_cache
def sections() -> tuple[SectionKeys, ...]:
    """Return every section of recipes, the top first, then in the order of the schema."""
    return tuple(_sections(Recipe, ""))


def section_at(path: Sequence[str], tags: Mapping[str, str]) -> SectionKeys | None:
    """Return the section at a path of keys, such as ("inner", "transform"); None where there is none.

    Args:
        path: keys from the top.
        tags: the values of tasks.source and model.kind, by "tasks" and "model"; they choose the section. Such a value,
            and that of inner.transform.name by "inner.transform", may be a name of a plug-in.
    """
    if (section := keys_of_plugin(".".join(path), tags)) is not None:
        return section
    return next((part for part in sections() if part.path == ".".join(path) and part.stands_for(tags)), None)


@lru_cache
def tag_keys() -> dict[str, str]:
    """Return the name of the tag of each section that is chosen by one: {"tasks": "source", "model": "kind"}."""
    return {section.path: section.tag for section in sections() if section.tag}


def tag_values(path: str) -> list[str]:
    """Return the values that the tag of a section may have; for `tasks`, the sources."""
    return [value for section in sections() if section.path == path for value in section.chosen_by]


def tag_names(path: str) -> list[str]:
    """Return the values that the tag of a section may have here, those that installed packages add included."""
    return [*tag_values(path), *plugin_names(path)]


def tags_of(tree: Mapping[str, object]) -> dict[str, str]:
    """Return tasks.source, model.kind and inner.transform.name of a tree, by section, where they stand in it."""
    inner = tree.get("inner")
    transform = inner.get("transform") if isinstance(inner, Mapping) else None
    below: dict[str, object] = {path: tree.get(path) for path in tag_keys()}
    below["inner.transform"] = {"name": transform} if isinstance(transform, str) else transform
    names = {**tag_keys(), "inner.transform": "name"}
    tags = {path: keys.get(names[path], "") for path, keys in below.items() if isinstance(keys, Mapping)}
    return {path: tag for path, tag in tags.items() if isinstance(tag, str)}


def keys_of_plugin(path: str, tags: Mapping[str, str]) -> SectionKeys | None:
    """Return the section of the plug-in that a tag names; None where it names none that can be used."""
    section = plugin_section(path, tags.get(path))
    if section is None:
        return None
    return next(_sections(section, path, "" if path == "inner.transform" else section.plugin_tag))


def known_keys(tags: Mapping[str, str]) -> dict[str, RecipeKey]:
    """Return every dotted key of recipes with these tags; a tag that is not known stands for all of its values."""
    keys: dict[str, RecipeKey] = {}
    for path, tag in tag_keys().items():
        name = f"{path}.{tag}"
        values = tuple(tag_names(path))
        keys[name] = RecipeKey(name, f"{tag} of the {path}", (), (), values, True, None, False)
    of_plugins = {path: section for path in GROUPS if (section := keys_of_plugin(path, tags)) is not None}
    for section in (*sections(), *of_plugins.values()):
        if section is not of_plugins.get(section.path, section):
            continue
        is_known = section.path in of_plugins or tags.get(section.path) in tag_values(section.path)
        if section.tag and is_known and not section.stands_for(tags):
            continue
        for key in section.keys:
            # Of several sections with the key, a closed set knows more than another's default.
            keys[key.name] = _merged(keys[key.name], key) if key.name in keys else key
            if key.name == "inner.transform.name":  # a name alone is enough
                keys[section.path] = replace(key, name=section.path)
    for name in ("inner.transform", "inner.transform.name"):
        keys[name] = replace(keys[name], values=(*_own_transforms(), *plugin_names("inner.transform")))
    keys["logging"] = replace(keys["logging"], values=tracker_names())
    if tags.get("tasks") in CLASS_SPLITS:
        name = "tasks.class_split"
        keys[name] = replace(keys[name], values=CLASS_SPLITS[tags["tasks"]])
    return keys


def _own_transforms() -> tuple[str, ...]:
    """Return the values of inner.transform.name that mamlcli has."""
    section = next(section for section in sections() if section.path == "inner.transform")
    return next(key.values for key in section.keys if key.name == "inner.transform.name")


def _merged(a: RecipeKey, b: RecipeKey) -> RecipeKey:
    """Return a key with the values that it has in either of two sections."""
    return replace(a, values=tuple(dict.fromkeys(a.values + b.values)), is_closed=a.is_closed and b.is_closed)


# The walk ------------------------------------------------------------------------------------------------------


def _sections(section: type[Section], path: str, tag: str = "") -> Iterator[SectionKeys]:
    """Yield a section and those below it."""
    fields = section.model_fields
    below = {name: field for name, field in fields.items() if field.discriminator or _section_of(field)}
    prefix = f"{path}." if path else ""
    keys = tuple(_key(f"{prefix}{name}", field) for name, field in fields.items() if name not in below and name != tag)
    chosen_by = typing.get_args(fields[tag].annotation) if tag else ()
    yield SectionKeys(path, " ".join((section.__doc__ or "").split()), tuple(fields), keys, tag, chosen_by)
    for name, field in below.items():
        kinds = typing.get_args(field.annotation) if field.discriminator else (_section_of(field),)
        for kind in kinds:
            yield from _sections(kind, f"{prefix}{name}", str(field.discriminator or ""))


def _section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field holds, also one that may be left out; None of a key."""
    kinds = (field.annotation, *typing.get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


@dataclass(frozen=True)
class _Kind:
    """Describes what a type says of a value; the attributes are those of `RecipeKey`."""

    types: tuple[str, ...] = ()
    bounds: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    is_closed: bool = True


def _key(name: str, field: FieldInfo) -> RecipeKey:
    kind = _kind(field.annotation)
    return RecipeKey(
        name=name,
        description=field.description or "",
        types=tuple(dict.fromkeys(kind.types)),
        bounds=tuple(dict.fromkeys((*_bounds(field.metadata), *kind.bounds))),
        values=kind.values or tuple(map(str, field.examples or ())),
        is_closed=kind.is_closed,
        default=None if field.is_required() else as_yaml(field.default),
        is_list=isinstance(field.default, list),
    )


_TYPES: dict[object, str] = {int: "integer", float: "number", str: "text"}


_LENGTHS = (("min_length", "at least"), ("max_length", "at most"))


_SIGNS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))


def _kind(annotation: object) -> _Kind:
    """Return what an annotation of the schema says of a value."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is bool:
        return _Kind(("true or false",), values=("true", "false"))
    if annotation is type(None):
        return _Kind(("`null`",), values=("null",))
    if origin is Literal:
        return _Kind(tuple(f"`{value}`" for value in args), values=tuple(map(as_yaml, args)))
    if origin in (typing.Union, types.UnionType):
        return _joined([_kind(part) for part in args])
    if origin is typing.Annotated:
        extras = [extra.metadata if isinstance(extra, FieldInfo) else [extra] for extra in args[1:]]
        kind = _kind(args[0])
        return replace(kind, bounds=(*_bounds([part for extra in extras for part in extra]), *kind.bounds))
    if origin is list:
        of_entry = _kind(args[0])
        return _Kind((f"list of {' or '.join(of_entry.types)}",), is_closed=False)
    return _Kind((_TYPES[annotation],), is_closed=False)


def _joined(kinds: list[_Kind]) -> _Kind:
    return _Kind(
        tuple(text for kind in kinds for text in kind.types),
        tuple(text for kind in kinds for text in kind.bounds),
        tuple(text for kind in kinds for text in kind.values),
        all(kind.is_closed for kind in kinds),
    )


def _bounds(metadata: Sequence[object]) -> tuple[str, ...]:
    return tuple(
        f"{sign} {_as_written(limit)}"
        for part in metadata
        for name, sign in (*_SIGNS, *_LENGTHS)
        if (limit := getattr(part, name, None)) is not None
    )


def _as_written(bound: float) -> str:
    return str(bound) if isinstance(bound, int) and abs(bound) < 10**12 else f"{bound:g}"


def as_yaml(value: object) -> str:
    """Return a value of a recipe as a person would write it on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "[" + ", ".join(json.dumps(entry, ensure_ascii=False) for entry in value) + "]"
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    text = str(value)
    is_misread = text != text.strip() or text[:1] in "'\"" or text in ("null", "Null", "NULL", "None", "~")
    return json.dumps(text, ensure_ascii=False) if is_misread else text
