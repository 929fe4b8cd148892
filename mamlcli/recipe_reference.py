"""The reference of recipe keys, docs/recipes.md, made from the schema: `make docs`. A test fails where it is stale."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic.fields import FieldInfo

from mamlcli.files import atomic_write
from mamlcli.names import CLASS_SPLITS
from mamlcli.recipe import TAG_KEYS, TAGGED, Recipe, Section
from mamlcli.recipe_files import recipe_summary, shipped_recipes

_START = """# Recipes

<!-- Written by `make docs` from mamlcli/recipe.py; edit that instead. -->

A recipe is a YAML file that says all of one experiment. Its keys are a closed set, so a recipe can be checked before
anything is built, and every mistake is reported at once. Any key can be changed on the command line, dotted:

```
mamlcli recipes ls
mamlcli recipes show sinusoid
mamlcli recipes cp sinusoid my-sinusoid.yaml
mamlcli recipes check my-sinusoid.yaml
mamlcli train my-sinusoid.yaml inner.steps=5 outer.lr=1e-4 --dry-run
```

Values are YAML: `true`, `null`, `1e-3`, `[head.*]`. A key that is left out has its default. `--dry-run` prints the
recipe with every default filled in, and what it would cost. The same overrides work
[from Python](python.md): `mamlcli.train("sinusoid", "inner.steps=5")`.

In the tables, *required* means that there is no default, `null` that the key may be left empty.
"""

_SECTION_WORDS = {
    "inner.transform": "`inner.transform=kfo` is short for `inner.transform.name=kfo`.",
}


def recipe_reference() -> str:
    """Return docs/recipes.md: every key with its type, range, default, meaning, and where it applies."""
    parts = [_START, "## Shipped recipes\n\n" + _shipped(), "## Top level\n\n" + _table(_rows(Recipe, "", common=True))]
    for key in Recipe.model_fields:
        parts += _tagged_parts(key) if key in TAGGED else _section_parts(key, Recipe.model_fields[key])
    parts.append("## Keys that do not go together\n\n" + _CONFLICTS)
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


# Of `Recipe.conflicts`, in words; what only data or model can tell is not here.
_CONFLICTS = """- `model.kind=cnn` needs images: a source of images, or `folder`.
- `inner.joint_features=true` needs `inner.algorithm=anil`.
- `inner.algorithm=fomaml` does not go with `inner.first_order=false`.
- `inner.transform.adapted=true` needs a transform.
- `inner.memory=constant` needs `execution.path` auto, explicit or loop.
- `execution.compile=true` needs `execution.path` auto or explicit.
- `execution.chunk` is at most `outer.tasks`.
- `validation.metric=accuracy` needs classification.
- `tasks.class_split` must be one of the source's:
""" + "".join(f"  - {source}: {', '.join(names)}\n" for source, names in CLASS_SPLITS.items())


def _shipped() -> str:
    lines = ["| recipe | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(recipe_summary(path))} |" for name, path in shipped_recipes().items()]
    return "\n".join(lines) + "\n\nThe header of each says what to expect and how long it takes: `recipes show NAME`.\n"


def _section_parts(key: str, field: FieldInfo) -> Iterator[str]:
    section = field.annotation
    if not _is_section(section):
        return
    yield f"## {key}\n\n{_doc(section)}\n\n{_words(key)}{_table(_rows(section, key))}"
    for name, inner in section.model_fields.items():
        if _is_section(inner.annotation):
            below = f"{key}.{name}"
            yield f"### {below}\n\n{_doc(inner.annotation)}\n\n{_words(below)}{_table(_rows(inner.annotation, below))}"


def _words(key: str) -> str:
    return f"{_SECTION_WORDS[key]}\n\n" if key in _SECTION_WORDS else ""


def _tagged_parts(key: str) -> Iterator[str]:
    """Yield the parts of `tasks` and `model`, whose keys depend on tasks.source and model.kind."""
    tag = TAG_KEYS[key]
    names: dict[type[Section], list[str]] = {}
    for name, section in TAGGED[key].items():
        names.setdefault(section, []).append(name)
    intro = f"`{key}.{tag}` (required) is one of {', '.join(f'`{name}`' for name in TAGGED[key])}, and says which of "
    yield f"## {key}\n\n{intro}these tables applies."
    for section, values in names.items():
        where = f"### {key}.{tag}: {', '.join(values)}"
        yield f"{where}\n\n{_doc(section)}\n\n{_table(_rows(section, key, without=tag))}"


def _rows(section: type[Section], prefix: str, *, common: bool = False, without: str = "") -> Iterator[list[str]]:
    for name, field in section.model_fields.items():
        if name == without or _is_section(field.annotation) or (common and name in TAGGED):
            continue
        key = f"{prefix}.{name}" if prefix else name
        kind, bounds = _type(field)
        yield [f"`{key}`", kind, bounds, _default(field), field.description or ""]


def _table(rows: Iterator[list[str]]) -> str:
    lines = ["| key | type | range | default | meaning |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _is_section(annotation: Any) -> typing.TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _doc(section: type[Section]) -> str:
    text = " ".join((section.__doc__ or "").split())
    return text.replace("*", "\\*")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    value = field.default
    if value is None:
        return "`null`"
    return f"`{str(value).lower() if isinstance(value, bool) else _plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(f'"{entry}"' for entry in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


_TYPES = {int: "integer", float: "number", str: "text", bool: "true or false"}
_SIGNS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))


def _type(field: FieldInfo) -> tuple[str, str]:
    """Return the type and the range of a field in words."""
    kinds, bounds = _of(field.annotation)
    own = _bounds(field.metadata)
    return " or ".join(dict.fromkeys(kinds)), ", ".join(dict.fromkeys([*own, *bounds]))


def _of(annotation: Any) -> tuple[list[str], list[str]]:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        kinds, bounds = _of(args[0])
        extras = [extra.metadata if isinstance(extra, FieldInfo) else [extra] for extra in args[1:]]
        metadata = [part for extra in extras for part in extra]
        return kinds, [*_bounds(metadata), *bounds]
    if origin is Literal:
        return [f"`{value}`" for value in args], []
    if origin in (typing.Union, types.UnionType):
        found = [_of(part) for part in args]
        return [kind for kinds, _ in found for kind in kinds], [bound for _, bounds in found for bound in bounds]
    if origin is list:
        return [f"list of {_TYPES[args[0]]}"], []
    if annotation is type(None):
        return ["`null`"], []
    return [_TYPES[annotation]], []


def _bounds(metadata: list[Any]) -> list[str]:
    found = [f"{sign} {getattr(part, name):g}" for part in metadata for name, sign in _SIGNS if hasattr(part, name)]
    lengths = [part.min_length for part in metadata if getattr(part, "min_length", None)]
    return [*found, *(f"at least {length}" for length in lengths)]


if __name__ == "__main__":
    atomic_write(Path(sys.argv[1]), recipe_reference().encode())
