"""Commands about a run: each means that run and its recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.files import load_recipe, recipe_to_yaml
from mamlcli.runs.models import shipped_models
from mamlcli.runs.suggestions import adapt_again, is_recipe, recipe_words, resume


def test_a_run_is_named_by_its_folder_and_a_shipped_model_by_its_name() -> None:
    assert adapt_again(Path("runs/my exp-1")) == "mamlcli adapt 'runs/my exp-1' --out 'runs/my exp-1'"
    assert resume(Path("runs/$a-1")) == "mamlcli train --resume --run-dir 'runs/$a-1'"
    name, folder = next(iter(shipped_models().items()))
    assert adapt_again(folder).split()[2] == name


@pytest.mark.parametrize("keys", [[], ["inner.lr=0.02"], ["validation.every=null", "inner.transform=kfo"]])
def test_a_shipped_recipe_is_named_with_the_keys_that_differ(keys: list[str]) -> None:
    recipe = load_recipe("sinusoid", keys)[1]
    words = recipe_words("sinusoid", recipe, Path("unused"))
    assert words[0] == "sinusoid"
    assert not recipe_difference(load_recipe("sinusoid", [str(word) for word in words[1:]])[1], recipe)


def test_another_recipe_and_one_with_many_changes_are_named_by_their_file(tmp_path: Path) -> None:
    recipe = load_recipe("sinusoid")[1]
    (tmp_path / "recipe.yaml").write_text(recipe_to_yaml(recipe))
    assert recipe_words("mine", recipe, tmp_path / "recipe.yaml") == [tmp_path / "recipe.yaml"]
    assert recipe_words("logistic", recipe, tmp_path / "recipe.yaml") == [tmp_path / "recipe.yaml"]


def test_a_recipe_that_cannot_be_trained_is_none() -> None:
    assert is_recipe("sinusoid", ["inner.steps=2"])
    assert not is_recipe("sinusoid", ["inner.steps=0"])
    assert not is_recipe("sinusoid", ["inner.steps=2"], load_recipe("sinusoid")[1])
