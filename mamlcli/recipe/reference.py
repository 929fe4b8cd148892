"""The reference of recipe keys, docs/recipes.md, is written here from the schema, by `make docs`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from mamlcli.common.files import atomic_write
from mamlcli.recipe.files import recipe_summary, shipped_recipes
from mamlcli.recipe.keys import RecipeKey, SectionKeys, sections, tag_values
from mamlcli.recipe.network_rules import SENTENCES
from mamlcli.recipe.rules import RULES

_START = """# Recipes

<!-- Written by `make docs` from the schema in mamlcli/recipe/; edit that instead. -->

A recipe is a YAML file that says all of one experiment. Its keys are a closed set, so a recipe can be checked before
anything is built, and every mistake is reported at once. Any key can be changed on the command line, dotted:

```
mamlcli recipes ls
mamlcli recipes show sinusoid
mamlcli recipes cp sinusoid my-sinusoid.yaml
mamlcli recipes check my-sinusoid.yaml
mamlcli train my-sinusoid.yaml inner.steps=5 outer.lr=1e-4 --dry-run
mamlcli recipes verify linear-regression
```

Values are YAML, read by the types of their keys: what is written for a text is that text (a folder `2024-05-01` or `no`
needs no quotes), numbers are decimal (`010` is ten, `1e4` an integer where one is wanted), and `null` is none. On the
command line a text may hold any character, and a list of texts may do without brackets: `inner.adapt=head.*,*.bias`.
A text that is itself in quotes is what they hold: `tasks.path='"null"'` is a folder of that name. In `tasks.path`, `~`
and variables (`$SCRATCH/photos`) are expanded when the data is read. Files are UTF-8, or UTF-16 with its mark.

A key that is left out has its default. `--dry-run` prints the recipe with every default filled in, and what it would
cost. The same overrides work
[from Python](python.md): `mamlcli.train("sinusoid", "inner.steps=5")`. `recipes verify` runs a recipe with several
seeds and tests whether it [reproduces](algorithms.md#is-a-number-reproduced) the number in its section `reference`.

Networks (`model.kind`), tasks (`tasks.source`), gradient transforms (`inner.transform`) and trackers (`logging`) may
also be names that [installed packages](plugins.md) add, with keys of their own: completion and `mamlcli recipes schema`
have those of all. On the command line `tasks={source: NAME}` and `model={kind: NAME, depth: 2}` replace a whole
section, whose other keys belong to what was there before.

## In an editor

VS Code (with the extension YAML by Red Hat), Neovim, Helix, Zed and others with the YAML language server complete keys
and values, show what a key means, and underline what is wrong, as you type. They find the schema by the first line of a
recipe, without a network:

```yaml
# yaml-language-server: $schema=recipe.schema.json
```

`recipes cp` writes this line and, beside the copy, the file that it names; a file of that name which is not ours stays,
with a warning. For recipes elsewhere, and after an upgrade, `recipes schema` writes the file (JSON Schema, draft 7):

```
mamlcli recipes schema --out recipe.schema.json
```

The schema refuses what `recipes check` refuses, at the same keys, but for what it cannot say: numbers of several keys
compared with one another (such as `outer.lr_min` with `outer.lr`), layers that do not fit the images, patterns that
match no parameter, and how a value is written (`5.0` for an integer, `0x10`, a text in quotes where `true` is wanted).
An editor marks `1_000`, which a recipe may have. So `recipes check` has the last word.

## Words of the tables

In the tables, *required* means that there is no default, `null` that the key may be left empty.
"""


_SECTION_WORDS = {
    "reference": "The section may be left out. It does not count where recipes are compared, and run directories do "
    "not hold it. For example:\n\n```yaml\nreference:\n  metric: accuracy\n  value: 98.7\n  margin: 0.4\n  source: "
    "Finn et al. 2017, table 1\n```",
    "inner.transform": "`inner.transform=kfo` is short for `inner.transform.name=kfo`.",
}


def recipe_reference() -> str:
    """Return docs/recipes.md: every key with its type, range, default, meaning, and where it applies."""
    top, *others = sections()
    parts = [_START, "## Shipped recipes\n\n" + _shipped(), "## Top level\n\n" + _table(top.keys)]
    paths: set[str] = set()
    for section in others:
        if section.tag and section.path not in paths:
            parts.append(_introduction(section))
        paths.add(section.path)
        parts.append(_section(section))
    sentences = (*(rule.sentence for rule in RULES), *SENTENCES)
    parts.append("## Keys that do not go together\n\n" + "".join(f"- {sentence}\n" for sentence in sentences))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _shipped() -> str:
    lines = ["| recipe | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(recipe_summary(path))} |" for name, path in shipped_recipes().items()]
    return "\n".join(lines) + "\n\nThe header of each says what to expect and how long it takes: `recipes show NAME`.\n"


def _introduction(section: SectionKeys) -> str:
    """Return the part before those of `tasks` and of `model`, whose keys depend on tasks.source and model.kind."""
    names = ", ".join(f"`{name}`" for name in tag_values(section.path))
    key = f"{section.path}.{section.tag}"
    return f"## {section.path}\n\n`{key}` (required) is one of {names}, and says which of these tables applies."


def _section(section: SectionKeys) -> str:
    title = f"## {section.path}"
    if section.tag:
        title = f"### {section.path}.{section.tag}: {', '.join(section.chosen_by)}"
    elif "." in section.path:
        title = f"#{title}"
    words = f"{_SECTION_WORDS[section.path]}\n\n" if section.path in _SECTION_WORDS else ""
    return f"{title}\n\n{_escaped(section.doc)}\n\n{words}{_table(section.keys)}"


def _table(keys: Iterable[RecipeKey]) -> str:
    lines = ["| key | type | range | default | meaning |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cell(text) for text in _row(key)) + " |" for key in keys]
    return "\n".join(lines) + "\n"


def _row(key: RecipeKey) -> tuple[str, ...]:
    default = "*required*" if key.default is None else f"`{key.default}`"
    return f"`{key.name}`", " or ".join(key.types), ", ".join(key.bounds), default, key.description


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("*", "\\*")


if __name__ == "__main__":
    atomic_write(Path(sys.argv[1]), recipe_reference().encode())
