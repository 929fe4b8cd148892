"""Words every problem of a recipe as one line, with its place and the nearest key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mamlcli.common.words import brief, nearest
from mamlcli.recipe.keys import known_keys, section_at, tag_keys, tag_names, tag_values, tags_of
from mamlcli.recipe.kinds import KeyPath
from mamlcli.recipe.plugins import GROUPS, PLUGIN_ERROR, plugin_names

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


_NAMED = re.compile(r"'([^']*)'")  # one of the names that pydantic lists


@dataclass
class Draft:
    """Holds a recipe that is not checked yet: its values, its file, the line of each key, the overridden keys."""

    name: str
    where: str
    tree: dict[str, object]
    lines: dict[KeyPath, int] = field(default_factory=dict)
    overridden: set[KeyPath] = field(default_factory=set)
    overridden_by: str = "command line"

    def place(self, path: KeyPath) -> str:
        """Return `file:line: key.path`, or `command line: key.path` for an override."""
        dotted = ".".join(path)
        is_given_below = path not in self.lines and any(over[: len(path)] == path for over in self.overridden)
        if is_given_below or any(path[: len(over)] == over for over in self.overridden):
            return f"{self.overridden_by}: {dotted}"
        line = next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)
        return f"{self.where}:{line}: {dotted}" if line else f"{self.where}: {dotted}"


def problem(draft: Draft, item: ErrorDetails) -> str:
    """Return an error of pydantic in words: `<place>: expected <what>, got <repr>.`"""
    # An entry of a list is named by its list.
    tags = tags_of(draft.tree)
    path = _without_tag(tuple(part for part in item["loc"] if isinstance(part, str)), tags)
    kind, context, got = item["type"], item.get("ctx", {}), item["input"]
    if kind == PLUGIN_ERROR:
        place = draft.place((*path, context["tag"]))
        return f"{place}: expected {context['expected']}, got {context['got']}. {context['next_step']}."
    if kind.startswith("union_tag"):
        return _problem_of_tag(draft, path, got, str(context.get("expected_tags", "")))
    place = draft.place(path)
    if kind == "extra_forbidden":
        section = section_at(path[:-1], tags)
        known = section.names if section else ()
        hint = f"{nearest(path[-1], known)} The keys are {', '.join(known)}."
        return f"{place}: expected a known key, got {brief(path[-1])}.{hint}"
    if kind == "missing":
        return f"{place}: expected a value, got nothing."
    more = plugin_names("inner.transform") if path == ("inner", "transform", "name") else ()
    if more and kind == "literal_error":
        choices = [*_NAMED.findall(str(context["expected"])), *more]
        context = {**context, "expected": f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"}
    hint = _hint(path, got, _NAMED.findall(str(context["expected"])) if kind == "literal_error" else [], tags)
    return f"{place}: expected {expected_value(kind, context, item['msg'])}, got {brief(got)}.{hint}"


def _hint(path: KeyPath, got: object, names: list[str], tags: Mapping[str, str]) -> str:
    """Return what may have been meant by a wrong value: null, a decimal point, a text in quotes, the nearest name."""
    key = known_keys(tags).get(".".join(path))
    types = key.types if key else ()
    if brief(got) in ("'None'", "'none'") and "`null`" in types:
        return " None is written null."
    if isinstance(got, str) and re.fullmatch(r"[-+]?[0-9]+,[0-9]+", got):
        return " The decimal sign is a point."
    if isinstance(got, list | dict) and "text" in types:
        return " A text with brackets goes into quotes."
    return nearest(got, names) if names and isinstance(got, str) else ""


def _problem_of_tag(draft: Draft, section: KeyPath, got: object, expected_tags: str) -> str:
    """Return what is wrong with tasks.source or model.kind, on which the other keys of the section depend."""
    if not isinstance(got, dict):
        return f"{draft.place(section)}: expected keys and values, got {brief(got)}."
    path = (*section, tag_keys()[section[0]])
    names = [name for name in (part.strip(" '") for part in expected_tags.split(",")) if name]
    names = [*names, *plugin_names(section[0])] if names else tag_names(section[0])
    tag = got.get(path[-1])
    got_text = "nothing" if tag is None else brief(tag)
    hint = nearest(tag, names) if isinstance(tag, str) else ""
    group = f" Installed packages add names by the entry point {GROUPS[section[0]]}." if tag and not hint else ""
    return f"{draft.place(path)}: expected one of {', '.join(names)}, got {got_text}.{hint}{group}"


def expected_value(kind: str, context: Mapping[str, object], message: str) -> str:
    """Return what was expected, by the kind of an error of pydantic."""
    names = {
        "int": "an integer",
        "float": "a number",
        "bool": "true or false",
        "string": "text",
        "list": "a list",
    }
    for prefix, text in names.items():
        if kind.startswith((f"{prefix}_type", f"{prefix}_parsing", f"{prefix}_from")):
            return text
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    if kind in bounds:
        bound = context[bounds[kind]]
        noun = "an integer" if isinstance(bound, int) else "a number"
        return f"{noun} {signs[bounds[kind]]} {bound if isinstance(bound, int) else format(bound, 'g')}"
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "too_short":
        return "at least one entry"
    if kind == "too_long":
        return f"at most {context['max_length']} entries"
    if kind == "string_too_long":
        return f"at most {context['max_length']} characters"
    if kind == "finite_number":
        return "a finite number"
    if kind == "string_pattern_mismatch":
        return "auto, cpu, cuda, cuda:N or mps"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "keys and values"
    return message.removeprefix("Value error, ").removeprefix("expected ")


def _without_tag(path: KeyPath, tags: Mapping[str, str]) -> KeyPath:
    """Return a path without the tag that pydantic puts into it behind tasks and model."""
    is_own = len(path) > 1 and path[0] in tag_keys() and tags.get(path[0]) not in plugin_names(path[0])
    if is_own and path[1] in tag_values(path[0]):
        return (path[0], *path[2:])
    return path
