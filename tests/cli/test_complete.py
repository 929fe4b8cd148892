"""Completers of arguments and options."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mamlcli.cli import complete


def offered(pairs):
    return [word for word, _ in pairs]


def context(*words):
    return SimpleNamespace(params={"arguments": list(words)})


def test_a_closed_set_is_offered_whole_and_the_shell_chooses():
    assert complete.one_of("auto", "cpu")("c") == [("auto", ""), ("cpu", "")]


def test_a_list_goes_on_with_the_names_that_are_not_in_it():
    assert offered(complete.list_of("a", "b", "c")("b,")) == ["b,a", "b,c"]


def test_help_is_one_short_line():
    pairs = complete.recipe_and_keys(context(), "")
    assert offered(pairs)
    assert max(len(text) for _, text in pairs) <= 60
    assert any(text.endswith(" ...") for _, text in complete.recipe_and_keys(context("sinusoid"), ""))


@pytest.mark.parametrize(
    ("completer", "has_bias_of_images"),
    [(complete.recipe_and_keys, True), (complete.study_recipe_and_keys, False)],
    ids=["train", "studies"],
)
def test_without_a_recipe_the_keys_are_those_of_what_a_bare_command_runs(completer, has_bias_of_images):
    """Bare training is on images, bare studies are on logistic regression."""
    assert ("tasks.ways=" in offered(completer(context("seed=1"), "tasks."))) is has_bias_of_images


def test_a_run_may_stand_first_where_a_study_can_start_from_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a-1").mkdir(parents=True)
    (tmp_path / "runs" / "a-1" / "recipe.yaml").write_text("")
    (tmp_path / "runs" / "a-1" / "manifest.json").write_text("{}")
    assert "runs/a-1" in offered(complete.start_and_keys(context(), "runs/"))
    assert "runs/a-1" not in offered(complete.study_recipe_and_keys(context(), "runs/"))
    assert offered(complete.run("runs/")) == ["runs/a-1"]


def test_behind_a_run_stand_keys_of_evaluation_alone():
    words = offered(complete.evaluation_keys(SimpleNamespace(params={"run": "glyphs-5way-1shot@1"}), "e"))
    assert "evaluation.ways=" in words
    assert all(word.startswith("evaluation.") for word in words)
