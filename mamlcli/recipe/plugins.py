"""Networks, tasks and transforms of installed packages become sections of recipes when a recipe names them."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, ValidatorFunctionWrapHandler, WrapSerializer, WrapValidator
from pydantic import create_model as made_model
from pydantic_core import PydanticCustomError

from mamlcli.common.errors import RecipeError
from mamlcli.common.plugins import NETWORKS, RECIPES, TASKS, TRANSFORMS, installed, package_of
from mamlcli.common.words import first_line
from mamlcli.recipe.plugin_schema import BASES, PluginKeys
from mamlcli.recipe.section import Section

# The section of a recipe whose tag may be a name of a plug-in, by its dotted path.
GROUPS = {"model": NETWORKS, "tasks": TASKS, "inner.transform": TRANSFORMS}

# The error of pydantic that says why a plug-in cannot be used.
PLUGIN_ERROR = "plugin"

_CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class PluginError(RecipeError):
    """A plug-in cannot be used.

    Attributes:
        expected, got, next_step: as in other messages.
    """

    def __init__(self, where: str, *, expected: str, got: str, next_step: str) -> None:
        super().__init__([f"{where}: expected {expected}, got {got}. {next_step}."])
        self.expected, self.got, self.next_step = expected, got, next_step


def plugin_names(path: str) -> tuple[str, ...]:
    """Return the names that installed packages add to a section, such as "model"; names of mamlcli's own stay its."""
    return tuple(name for name in installed(GROUPS[path]) if name not in own_names(path)) if path in GROUPS else ()


def plugin_point(group: str, name: str) -> EntryPoint:
    """Return the entry point of a name.

    Raises:
        PluginError: no installed package has the name, or two have it.
    """
    points = installed(group).get(name, ())
    if len(points) == 1:
        return points[0]
    if not points:
        known = ", ".join(installed(group)) or "none"
        expected = f"a name that an installed package adds (entry point {group}: {known})"
        raise PluginError(name, expected=expected, got=repr(name), next_step="Install the package that has it")
    packages = ", ".join(map(package_of, points))
    expected, next_step = "a name of one installed package", "Uninstall all but one of them"
    raise PluginError(name, expected=expected, got=f"{name!r} of {packages}", next_step=next_step)


@lru_cache
def plugin_keys(group: str, name: str) -> type[PluginKeys]:
    """Import the module of a plug-in's keys, and return their section, in which the name stands.

    Raises:
        PluginError: no package has the name or two have it, its module fails, or it names something else than keys.
    """
    point = plugin_point(group, name)
    package, bases = package_of(point), BASES[group]
    next_step = f"Mend or uninstall {point.dist.name if point.dist else point.value}; mamlcli doctor lists plug-ins"

    def failed(expected: str, got: str) -> PluginError:
        return PluginError(name, expected=expected, got=got, next_step=next_step)

    try:
        keys = point.load()
    except (Exception, SystemExit) as error:
        got = f"{type(error).__name__}: {first_line(error)}"
        raise failed(f"{package}, which has {name!r}, to be imported ({point.value})", got) from error
    if not isinstance(keys, type) or not issubclass(keys, bases) or keys in bases:
        wanted = " or ".join(f"mamlcli.{base.__name__}" for base in bases)
        raise failed(f"a class derived from {wanted} at {point.value} of {package}", repr(keys)[:100])
    code = getattr(keys, "code", None)
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        expected = f'code = "module:function" in {point.value} of {package}, which makes the object'
        raise failed(expected, repr(code)[:100])
    for base, fields in ((base, base.model_fields) for base in bases if issubclass(keys, base)):
        for field in fields:
            if field != base.plugin_tag and keys.model_fields[field].annotation != fields[field].annotation:
                raise failed(f"the key {field} of {point.value} as mamlcli.{base.__name__} has it", "another type")
    try:
        made = made_model(
            keys.__name__, __base__=keys, __module__=keys.__module__, **{keys.plugin_tag: (Literal[name], ...)}
        )  # type: ignore[call-overload]
    except Exception as error:
        raise failed(f"keys that pydantic can check at {point.value} of {package}", first_line(error)) from error
    made.__reduce__ = _reduced  # type: ignore[assignment, method-assign]
    made.__doc__ = keys.__doc__ if "__doc__" in vars(keys) and keys.__doc__ else f"Keys of {name}, of {package}."
    return typing.cast("type[PluginKeys]", made)


def _reduced(keys: PluginKeys) -> tuple[Any, ...]:
    """Return what pickle keeps of keys: their class is made here, which another process does by the name."""
    return _restored, (keys.plugin_group, keys.model_dump())


def _restored(group: str, values: dict[str, Any]) -> PluginKeys:
    return plugin_keys(group, values[BASES[group][0].plugin_tag]).model_validate(values)


def plugin_section(path: str, name: str | None) -> type[PluginKeys] | None:
    """Return the section of a plug-in that can be used; None where the name is none of such."""
    if name is None or name not in plugin_names(path):
        return None
    try:
        return plugin_keys(GROUPS[path], name)
    except PluginError:
        return None


# Sections of recipes --------------------------------------------------------------------------------------------


_own: dict[str, tuple[str, ...]] = {}


def own_names(path: str) -> tuple[str, ...]:
    """Return the names that mamlcli itself has at a section."""
    return _own[path]


def or_plugin(path: str, *sections: type[Section]) -> WrapValidator:
    """Return the validator of a section that may be a plug-in's.

    Args:
        path: the section, such as "model".
        sections: those that mamlcli has.
    """
    group = GROUPS[path]
    tag = BASES[group][0].plugin_tag
    _own[path] = tuple(dict.fromkeys(name for own in sections for name in _names(own.model_fields[tag].annotation)))

    def validated(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, PluginKeys) and value.plugin_group == group:
            return value
        name = value.get(tag) if isinstance(value, Mapping) else None
        if not isinstance(name, str) or name not in plugin_names(path):
            return handler(value)
        try:
            keys = plugin_keys(group, name)
        except PluginError as error:
            words: dict[str, Any] = {"expected": error.expected, "got": error.got, "next_step": error.next_step}
            raise PydanticCustomError(PLUGIN_ERROR, "{expected}, got {got}", {**words, "tag": tag}) from error
        return keys.model_validate(value)

    return WrapValidator(validated)


def _names(annotation: object) -> list[str]:
    """Return the names of a literal, or of several."""
    parts = typing.get_args(annotation)
    return [name for part in parts for name in ([part] if isinstance(part, str) else _names(part))]


def _written(value: Any, handler: SerializerFunctionWrapHandler, info: Any) -> Any:
    return value.model_dump(mode=info.mode) if isinstance(value, PluginKeys) else handler(value)


# Writes a section that may be a plug-in's.
WRITTEN = WrapSerializer(_written)


def plugins_of(recipe: Any) -> dict[str, PluginKeys]:
    """Return the sections of a recipe that are of plug-ins, by their paths."""
    sections = {"model": recipe.model, "tasks": recipe.tasks, "inner.transform": recipe.inner.transform}
    return {path: section for path, section in sections.items() if isinstance(section, PluginKeys)}


# Recipes of packages --------------------------------------------------------------------------------------------


def plugin_recipes() -> dict[str, Path]:
    """Return the recipes that installed packages ship, by name; no package is imported.

    An entry point of the group mamlcli.recipes names a package, whose folder holds them.
    """
    found: dict[str, Path] = {}
    for points in installed(RECIPES).values():
        for point in points:
            for path in sorted(_folder(point.value).glob("*.yaml")):
                found.setdefault(path.stem, path)
    return found


def _folder(package: str) -> Path:
    """Return the folder of a package, which is not imported; a folder that is not there where there is none."""
    first, *below = package.split(".")
    try:
        spec = find_spec(first)
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0], *below) if places else Path("/nonexistent")
