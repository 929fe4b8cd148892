"""Words as other programs want them are answered with the very word to type."""

from __future__ import annotations

import shlex

import pytest

from mamlcli.recipe.files import load_recipe
from mamlcli.recipe.habits import habit_among_options, is_key, override_word, without_habits
from tests.helpers.recipes import problem

LR = [
    ["--inner.lr=1"],
    ["--inner.lr", "1"],
    ["-inner.lr=1"],
    ["+inner.lr=1"],
    ["++inner.lr=1"],
    ["inner.lr: 1"],
    ["inner.lr:", "1"],
    ["inner.lr", "1"],
    ["inner.lr", "=", "1"],
    ["inner.lr", "=1"],
    ["inner.lr", ":", "1"],
]


@pytest.mark.parametrize("words", LR, ids=" ".join)
def test_habit_is_answered_with_the_word_to_type(words):
    line = problem("sinusoid", *words)
    assert line == f"command line: expected key.path=value, got {' '.join(words)!r}. Type: inner.lr=1"
    assert load_recipe("sinusoid", [line.rpartition("Type: ")[2]])[1].inner.lr == 1


@pytest.mark.parametrize("words", LR, ids=" ".join)
def test_other_words_beside_a_habit_are_kept(words):
    assert without_habits(["seed=1", *words, "model.depth=2"])[0] == ["seed=1", "model.depth=2"]


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["~validation.every"], "validation.every=null"),
        (["~inner.lr"], "inner.lr=0.1"),
        (["--inner.first_order"], "inner.first_order=true"),
        (["~inner.first_order"], "inner.first_order=false"),
        (["--validation.every", "None"], "validation.every=null"),
        (["--tasks.path", "my photos"], "'tasks.path=my photos'"),
        (["--inner.stesp=1"], "inner.steps=1"),
        (["--seed", "-1"], "seed=-1"),
        (["--tasks.source"], "tasks.source=VALUE"),
        (["+my.own=3"], "my.own=3"),
    ],
)
def test_what_is_typed_instead(words, typed):
    ours, [answer] = without_habits(words)
    assert ours == []
    assert answer.endswith(f". Type: {typed}")


def test_value_of_one_habit_is_not_taken_from_the_next_key():
    ours, answers = without_habits(["inner.lr", "seed=1", "--model.depth", "--inner.steps=2"])
    assert ours == ["seed=1"]
    assert [answer.rpartition(" ")[2] for answer in answers] == ["inner.lr=0.1", "model.depth=4", "inner.steps=2"]


@pytest.mark.parametrize("word", ["inner.lr=1", "inner.lr = 1", "tasks.path=a: b", "nonsense", "~/r.yaml", "C:\\r", ""])
def test_our_own_form_and_what_names_no_key_are_left_alone(word):
    assert without_habits([word]) == ([word], [])


def test_spaces_around_the_sign_are_no_part_of_a_text():
    assert load_recipe("folder", ["tasks.path = my photos "])[1].tasks.path == "my photos"
    assert load_recipe("folder", ["tasks.path= x"])[1].tasks.path == " x"


def test_word_is_a_key_or_a_recipe():
    keys = ["inner.lr", "inner.lr=1", "a.b=1", "seed", "seed:", "--seed=1", "+x=1", "~inner.lr", "my.yaml=1"]
    recipes = ["sinusoid", "my.yaml", "runs/sinusoid-1", "~/r.yaml", "../r.yaml", "", "inner", "/a=b/r.yaml"]
    assert [word for word in keys if not is_key(word)] == []
    assert [word for word in recipes if is_key(word)] == []


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["train", "sinusoid", "--inner.lr=1"], "inner.lr=1"),
        (["train", "--inner.lr", "1", "--dry-run"], "inner.lr=1"),
        (["meta-opt", "--seed", "3"], "seed=3"),
        (["train", "--innr.lr=1"], "inner.lr=1"),
    ],
)
def test_key_among_options_is_answered(words, typed):
    assert habit_among_options(words).endswith(f". Type: {typed}")


@pytest.mark.parametrize(
    "words",
    [
        ["data", "show", "glyphs", "--seed", "3"],
        ["train", "--run-dir", "a.b", "seed=1"],
        ["train", "--", "--inner.lr=1"],
        ["runs", "export", "--out", "-x.png"],
    ],
)
def test_options_are_left_alone(words):
    assert habit_among_options(words) is None


def test_answer_is_one_word_of_a_shell():
    assert shlex.split(override_word("tasks.path", "a b's $x")) == ["tasks.path=a b's $x"]
