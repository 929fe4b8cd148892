"""These functions say what the shell may complete a word to: recipes, keys, values, runs, sources. No torch is loaded.

Each function returns (word, help) pairs; the caller leaves out those that do not begin as the incomplete word does.
A shell puts a space after a word that is the only one left. So a key is never offered by itself: beside `inner.steps=`
stands `inner.steps=5`, its default, or all values of a closed set.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.common.errors import MamlError
from mamlcli.common.files import cache_dir, data_dir
from mamlcli.common.names import IMAGE_SOURCES
from mamlcli.runs.models import run_folder, shipped_models
from mamlcli.runs.search import run_folders, study_folders

if TYPE_CHECKING:
    from mamlcli.recipe.keys import RecipeKey


Words = list[tuple[str, str]]


_MOST_RUNS = 500  # more would not be read, and take long to find


# Recipes and keys ----------------------------------------------------------------------------------------------


def recipe_words(words: Sequence[str], incomplete: str, *, default: str, with_runs: bool = False) -> Words:
    """Return the words that may come next in `[RECIPE] [KEY=VALUE ...]`.

    Args:
        words: those before it. bash takes `key=value` apart: `key`, `=`, `value`.
        incomplete: what is typed of the next one.
        default: the recipe where none is named; it says which keys there are.
        with_runs: whether the first word may be a run.
    """
    given = _rejoined(words)
    if given and _is_key_of(given[-1]):
        return _values_after(given, incomplete, default)
    offered: Words = []
    if not given and "=" not in incomplete:
        offered += recipe_names(incomplete)
        offered += run_words(incomplete) + model_words(incomplete) if with_runs else []
    if given or incomplete:
        offered += _override_words(given, incomplete, default)
    return offered


def recipe_names(incomplete: str) -> Words:
    """Return the recipes that have names, with what they are, and YAML files."""
    from mamlcli.recipe.files import named_recipes, recipe_summary

    shipped = [(name, recipe_summary(path)) for name, path in named_recipes().items() if name.startswith(incomplete)]
    return shipped + files(incomplete, (".yaml", ".yml"))


def _rejoined(words: Sequence[str]) -> list[str]:
    """Put `key`, `=`, `value` together again; `key`, `=` at the end becomes `key=`."""
    joined: list[str] = []
    for word in words:
        if joined and (word == "=" or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _is_key_of(word: str) -> bool:
    """Return whether a word is a key whose value comes next, as bash tells it: `key=`, or `key` where = is typed."""
    from mamlcli.recipe.keys import known_keys

    return word.endswith("=") or ("=" not in word and not Path(word).exists() and word in known_keys({}))


def _values_after(given: list[str], incomplete: str, default: str) -> Words:
    from mamlcli.recipe.keys import known_keys

    key = known_keys(_tags(given[:-1], default)).get(given[-1].rstrip("="))
    return [] if key is None else [(value, _help_of(key)) for value in _values_of(key)]


def _override_words(given: list[str], incomplete: str, default: str) -> Words:
    """Return `key=value` words; a key that is set already is left out."""
    from mamlcli.recipe.keys import known_keys

    taken = {word.partition("=")[0] for word in given}
    keys = {name: key for name, key in known_keys(_tags(given, default)).items() if name not in taken}
    typed = incomplete.partition("=")[0]
    matching = [name for name in keys if name.startswith(typed)]
    offered: Words = []
    for name in matching:
        key = keys[name]
        if "=" in incomplete or len(matching) == 1:
            offered += [(f"{name}={value}", _help_of(key)) for value in _values_of(key)]
        if "=" not in incomplete and not (len(matching) == 1 and key.is_closed):
            offered.append((f"{name}=", _help_of(key)))
    return offered


def _tags(given: Sequence[str], default: str) -> dict[str, str]:
    """Return tasks.source and model.kind of the recipe that is meant, by "tasks" and "model"; empty if none can be."""
    from mamlcli.recipe.files import load_recipe, recipe_to_tree
    from mamlcli.recipe.keys import tag_keys, tags_of

    name = given[0] if given and "=" not in given[0] else default
    try:
        folder = run_folder(Path(name))
        recipe = load_recipe(str(folder / "recipe.yaml") if folder.is_dir() else name)[1]
    except (MamlError, OSError):
        return {}
    tags = tags_of(recipe_to_tree(recipe))
    changed = dict(word.split("=", 1) for word in given if "=" in word)
    dotted = {section: f"{section}.{tag}" for section, tag in tag_keys().items()}
    dotted["inner.transform"] = "inner.transform.name" if "inner.transform" not in changed else "inner.transform"
    return tags | {section: changed[key] for section, key in dotted.items() if changed.get(key)}


def _values_of(key: RecipeKey) -> tuple[str, ...]:
    """Return the values that are offered: all of a closed set; else those that are known, and the default."""
    # A list has characters that a shell would take for its own.
    if key.is_closed or key.is_list or key.default is None or key.default in key.values:
        return key.values
    return (*key.values, key.default)


def _help_of(key: RecipeKey) -> str:
    return key.description + (f" (default {key.default})" if key.default is not None and not key.is_list else "")


# Runs, data, lists ---------------------------------------------------------------------------------------------


def run_words(incomplete: str, *, by_name: bool = False, with_studies: bool = False) -> Words:
    """Return the run directories below `runs/`, or below the folder that is typed, cells of studies included.

    Args:
        incomplete: what is typed.
        by_name: whether a name below runs/ is enough.
        with_studies: whether a study may stand for its cells.
    """
    typed = incomplete.rpartition("/")[0]
    base = Path(typed.split("/")[0] or "/") if typed.startswith("runs/") else Path(typed or "runs")
    if not base.is_dir():
        base = Path("runs")
    kinds = [("a study", study_folders)] if with_studies else []
    kinds.append(("a run", run_folders))
    offered: Words = []
    for words, folders in kinds:
        for path in itertools.islice(folders(base), _MOST_RUNS):
            names = [str(path)] + ([str(path.relative_to("runs"))] if by_name and path.parts[0] == "runs" else [])
            offered += [(name, words) for name in names if name.startswith(incomplete)][:1]
    return offered


def model_words(incomplete: str) -> Words:
    """Return the trained models that ship with mamlcli."""
    return [(name, "a trained model") for name in shipped_models() if name.startswith(incomplete)]


def study_words(incomplete: str) -> Words:
    """Return the folders of studies below `runs/`, or below the folder that is typed."""
    base = Path(incomplete.rpartition("/")[0] or "runs")
    base = base if base.is_dir() else Path("runs")
    return [(str(path), "a study") for path in itertools.islice(study_folders(base), _MOST_RUNS)]


def pack_words(incomplete: str) -> Words:
    """Return sources of images, packs that are here under other names, and .npz files."""
    packs = dict.fromkeys(IMAGE_SOURCES, "a source of images")
    folders = [cache_dir()]
    with contextlib.suppress(MamlError):  # what MAMLCLI_DATA says may be no folder
        folders.insert(0, data_dir())
    for path in (path for folder in folders for path in sorted(folder.glob("*.npz"))):
        if not path.name.startswith((".", "glyphs-v")):
            packs.setdefault(path.stem, str(path))
    return [*packs.items(), *files(incomplete, (".npz",))]


def list_words(incomplete: str, names: Iterable[str]) -> Words:
    """Return a comma-separated list with one more name of a closed set."""
    begun = incomplete.rpartition(",")[0]
    taken = begun.split(",")
    return [(f"{begun},{name}" if begun else name, "") for name in names if name not in taken]


def files(incomplete: str, suffixes: tuple[str, ...]) -> Words:
    """Return files with these suffixes and, once something is typed, the folders on the way to them."""
    above, _, begun = incomplete.rpartition("/")
    folder = Path(os.path.expanduser(f"{above}/" if "/" in incomplete else "."))
    prefix = incomplete[: len(incomplete) - len(begun)]
    try:
        entries = sorted(path for path in folder.iterdir() if path.name.startswith(begun))
    except OSError:
        return []
    entries = [path for path in entries if begun.startswith(".") or not path.name.startswith(".")]
    matching = [(f"{prefix}{path.name}", "a file") for path in entries if path.suffix in suffixes and path.is_file()]
    folders = [f"{prefix}{path.name}/" for path in entries if path.is_dir()] if incomplete else []
    # The only way leads on; else the shell would put a space after it.
    is_only_way = len(folders) == 1 and not matching
    return files(folders[0], suffixes) if is_only_way else [*matching, *((folder, "") for folder in folders)]
