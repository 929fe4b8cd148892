"""Each function here completes one kind of argument or option in the shell; typer calls it as `autocompletion`."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import typer

from mamlcli.cli import completion

# The recipes of commands that are given none; there they say which keys there are.
DEFAULT_RECIPE, DEFAULT_STUDY_RECIPE = "glyphs-5way-1shot", "logistic"


_LONGEST_HELP = 60  # characters; Typer folds what is longer, and fish takes each line for a completion


Words = list[tuple[str, str]]


def recipe_and_keys(context: typer.Context, incomplete: str) -> Words:
    """Complete `[RECIPE] [KEY=VALUE ...]`."""
    return _brief(completion.recipe_words(_arguments(context), incomplete, default=DEFAULT_RECIPE))


def study_recipe_and_keys(context: typer.Context, incomplete: str) -> Words:
    """Complete `[RECIPE] [KEY=VALUE ...]` of a study."""
    return _brief(completion.recipe_words(_arguments(context), incomplete, default=DEFAULT_STUDY_RECIPE))


def start_and_keys(context: typer.Context, incomplete: str) -> Words:
    """Complete `[RECIPE|RUN] [KEY=VALUE ...]`."""
    return _brief(
        completion.recipe_words(_arguments(context), incomplete, default=DEFAULT_STUDY_RECIPE, with_runs=True)
    )


def evaluation_keys(context: typer.Context, incomplete: str) -> Words:
    """Complete `[KEY=VALUE ...]` behind a run: keys of evaluation."""
    given = [*filter(None, [str(context.params.get("run") or "")]), *_arguments(context)]
    offered = completion.recipe_words(given, incomplete, default=DEFAULT_RECIPE, with_runs=True)
    return _brief([word for word in offered if "=" not in word[0] or word[0].startswith("evaluation.")])


def _brief(words: Words) -> Words:
    return [(word, textwrap.shorten(text, _LONGEST_HELP, placeholder=" ...")) for word, text in words]


def _arguments(context: typer.Context) -> list[str]:
    return list(context.params.get("arguments") or [])


def recipe(incomplete: str) -> Words:
    """Complete one recipe."""
    return _brief(completion.recipe_names(incomplete))


def run(incomplete: str) -> Words:
    """Complete the folder of a run, or a trained model that ships with mamlcli."""
    return _brief(completion.run_words(incomplete) + completion.model_words(incomplete))


def own_run(incomplete: str) -> Words:
    """Complete the folder of a run."""
    return _brief(completion.run_words(incomplete))


def model(incomplete: str) -> Words:
    """Complete a trained model that ships with mamlcli."""
    return _brief(completion.model_words(incomplete))


def runs(incomplete: str) -> Words:
    """Complete runs and studies, by folder or name, and trained models that ship with mamlcli."""
    of_user = completion.run_words(incomplete, by_name=True, with_studies=True)
    return _brief(of_user + completion.model_words(incomplete))


def study(incomplete: str) -> Words:
    """Complete the folder of a study."""
    return _brief(completion.study_words(incomplete))


def pack(incomplete: str) -> Words:
    """Complete the name or the file of a pack."""
    return _brief(completion.pack_words(incomplete))


def one_of(*names: str) -> Callable[[str], Words]:
    """Return a function that completes a word to one of these names."""

    def complete(incomplete: str) -> Words:
        return [(name, "") for name in names]

    return complete


def list_of(*names: str) -> Callable[[str], Words]:
    """Return a function that completes a comma-separated list of these names."""

    def complete(incomplete: str) -> Words:
        return _brief(completion.list_words(incomplete, names))

    return complete
