"""Recipes in and out of YAML: what is read, and that every error names its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mamlcli.common.errors import RecipeError
from mamlcli.recipe.files import (
    find_recipe,
    load_recipe,
    recipe_from_tree,
    recipe_summary,
    recipe_to_tree,
    recipe_to_yaml,
    shipped_recipes,
)
from tests.helpers.recipes import SMALL, problem

SHIPPED = shipped_recipes()


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "+1e-3", "0.001", ".1e-2", "10e-4", "1.e-3"])
def test_every_way_to_write_a_number_is_a_number(write, text):
    name = write(f"{SMALL}outer: {{lr: {text}}}\n")
    assert load_recipe(name)[1].outer.lr == 1e-3
    assert load_recipe("logistic", [f"outer.lr={text}"])[1].outer.lr == 1e-3


def test_text_that_only_begins_like_a_number_is_text(write):
    assert "'1e-3x'" in problem(write(f"{SMALL}outer: {{lr: 1e-3x}}\n"))


@pytest.mark.parametrize(("value", "got"), [("nan", "'nan'"), (".nan", "nan"), (".inf", "inf"), ("1e999", "inf")])
def test_rate_that_is_no_finite_number_is_refused(small, value, got):
    assert problem(small, f"inner.lr={value}").endswith(f"got {got}.")


@pytest.mark.parametrize("value", ["yes", "1", "on"])
def test_bool_is_true_or_false(write, value):
    expected = "expected true or false" if value == "1" else None
    name = write(f"{SMALL}inner: {{first_order: {value}}}\n")
    if expected:
        assert expected in problem(name)
    else:  # YAML 1.1 says that these words are true
        assert load_recipe(name)[1].inner.first_order is True
    assert "expected true or false, got 'yes'" in problem(write(f'{SMALL}inner: {{first_order: "yes"}}\n'))


def test_null_unsets_a_key(small):
    assert load_recipe(small, ["validation.every=null"])[1].validation.every is None
    assert load_recipe(small, ["validation.every="])[1].validation.every is None


# Overrides ------------------------------------------------------------------------------------------------------------


def test_override_mends_an_error_of_the_file(write):
    assert load_recipe(write(f"{SMALL}seed: x\n"), ["seed=3"])[1].seed == 3


@pytest.mark.parametrize("text", ["", "=3", "inner", "inner..steps=3", ".steps=3", "inner.=3", "inner.steps"])
def test_override_without_key_or_value_is_refused(small, text):
    assert "expected key.path=value" in problem(small, text)


@pytest.mark.parametrize("value", ["[1", "{", "9" * 5000, "[" * 5000, "'", "!!python/name:os.system"])
def test_override_that_is_no_yaml_value_is_refused(small, value):
    assert problem(small, f"seed={value}").startswith("command line: seed: expected a YAML value")


def test_last_of_two_overrides_counts(small):
    assert load_recipe(small, ["seed=1", "seed=2"])[1].seed == 2


# Found by name --------------------------------------------------------------------------------------------------------


def test_unknown_recipe_is_refused_with_the_nearest_name():
    line = problem("linear-regresion")
    assert "Did you mean 'linear-regression'?" in line
    assert "mamlcli recipes ls" in line


def test_file_comes_before_a_shipped_recipe_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logistic").write_text(f"{SMALL}seed: 77\n")
    assert load_recipe("logistic")[1].seed == 77


def test_shipped_recipe_is_found_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logistic").mkdir()
    assert find_recipe("logistic") == SHIPPED["logistic"]


# Files that are no recipes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "got an empty file"),
        ("# only a comment\n", "got an empty file"),
        (b"\xff\xfe\x00\xd8", "got a damaged file in UTF-16"),
        (
            "# f\xfcnf Aufgaben\n".encode("latin-1"),
            "Latin-1 or Windows-1252 (byte 0xfc in line 1)",
        ),
        (b"\x89PNG\r\n\x1a\n", "got a binary file"),
        ("abc\x00def", "got a syntax error"),
        ("a: [1\n", "got a syntax error"),
        ("\tseed: 1\n", "got a syntax error"),
        ("- 1\n- 2\n", "expected keys and values"),
        ("just a sentence", "expected keys and values"),
        ("? [1, 2]\n: 3\n", "a key that is no name"),
        ("? {a: 1}\n: 3\n", "a key that is no name"),
        ("seed: !!python/object:os.system {}\n", "got a syntax error"),
        (f"{SMALL}---\n{SMALL}", "got a syntax error"),
        (f"{SMALL}seed: {'9' * 5000}\n", "expected values that can be read"),
        ("tasks: &a\n  source: logistic\n  x: *a\n", "holds itself"),
        ("[" * 5000, "far too many levels"),
        ("a: " + "{a: " * 2000 + "1" + "}" * 2000, "far too many levels"),
    ],
)
def test_file_that_is_no_recipe_is_refused_in_one_line(write, content, expected):
    line = problem(write(content))
    assert line.startswith("r.yaml")
    assert expected in line
    assert "mamlcli recipes cp" in line


def test_syntax_error_names_its_line(write):
    assert problem(write(f"{SMALL}seed: [1,\n  2\nouter: 3\n")).startswith("r.yaml:5:")


def test_key_written_twice_is_refused_at_its_second_place(write):
    assert problem(write(f"{SMALL}seed: 1\nseed: 2\n")).startswith(
        "r.yaml:4: expected YAML, got a syntax error: the key 'seed' stands twice"
    )


def test_folder_is_refused(tmp_path):
    assert "got a folder" in problem(str(tmp_path))


def test_keys_of_another_section_can_be_taken_over(write):
    name = write(f"base: &b {{shots: 3}}\n{SMALL}".replace("logistic", "logistic, <<: *b"))
    assert "base" in problem(name)  # the merge itself is fine
    merged = "tasks: {source: logistic, <<: {shots: 3, queries: 4}, queries: 5}\nmodel: {kind: mlp}\n"
    tasks = load_recipe(write(merged))[1].tasks
    assert (tasks.shots, tasks.queries) == (3, 5)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + SMALL.encode(), SMALL.replace("\n", "\r\n").encode()])
def test_files_of_other_editors_are_read(write, content):
    assert load_recipe(write(content))[1] == recipe_from_tree(
        {"tasks": {"source": "logistic"}, "model": {"kind": "mlp"}}
    )


# Transforms -----------------------------------------------------------------------------------------------------------


def test_transform_by_name_takes_an_override_below_it(write):
    name = write(f"{SMALL}inner: {{transform: kfo}}\n")
    transform = load_recipe(name, ["inner.transform.adapted=true"])[1].inner.transform
    assert (transform.name, transform.adapted) == ("kfo", True)


def test_transform_by_name_on_the_command_line_takes_an_override_below_it(small):
    words = ["inner.transform=meta-sgd", "inner.transform.adapted=true"]
    transform = load_recipe(small, words)[1].inner.transform
    assert (transform.name, transform.adapted) == ("meta-sgd", True)


# Round trips ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_recipe_written_as_yaml_is_read_back_equal(name, write):
    recipe = load_recipe(name)[1]
    assert load_recipe(write(recipe_to_yaml(recipe)))[1] == recipe
    assert recipe_from_tree(recipe_to_tree(recipe)) == recipe


def test_fomaml_written_as_yaml_is_read_back_equal(write):
    recipe = load_recipe("logistic", ["inner.algorithm=fomaml", "inner.transform=kfo", "outer.lr=1e-5"])[1]
    assert load_recipe(write(recipe_to_yaml(recipe)))[1] == recipe


def test_trees_are_checked_too():
    with pytest.raises(RecipeError, match=r"here: model\.depth: expected an integer >= 1, got 0"):
        recipe_from_tree({"tasks": {"source": "logistic"}, "model": {"kind": "mlp", "depth": 0}}, where="here")


# The shipped recipes --------------------------------------------------------------------------------------------------


def test_default_recipe_is_shipped():
    assert "glyphs-5way-1shot" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_loads_under_its_name(name):
    assert load_recipe(name)[0] == name
    assert load_recipe(str(SHIPPED[name])) == load_recipe(name)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_says_what_it_is(name):
    summary = recipe_summary(SHIPPED[name])
    assert 20 <= len(summary) <= 110
    header = [line for line in SHIPPED[name].read_text().splitlines() if line.startswith("#")]
    for word in ("Reproduces", "Source", "Command", "Expect", "Time"):
        lines = [line for line in header if line.startswith(f"# {word}:")]
        assert len(lines) == 1, word
        assert len(lines[0]) > len(f"# {word}: ..."), word


@pytest.mark.parametrize("name", SHIPPED)
def test_command_of_a_shipped_recipe_is_one_that_runs_it(name):
    (line,) = [line for line in SHIPPED[name].read_text().splitlines() if line.startswith("# Command:")]
    last = line.removeprefix("# Command:").split(";")[-1].strip()
    expected = "mamlcli train" if name == "glyphs-5way-1shot" else f"mamlcli train {name}"
    assert last == expected or last.startswith(f"{expected} ")


def test_summary_of_a_recipe_without_a_comment_is_empty(small, tmp_path):
    assert recipe_summary(tmp_path / small) == ""


# Trackers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [("csv", ["csv"]), ("[csv,tensorboard]", ["csv", "tensorboard"]), ("csv, mlflow", ["csv", "mlflow"])],
)
def test_logging_takes_one_tracker_or_several(small, write, text, names):
    assert load_recipe(small, [f"logging={text}"])[1].logging == names
    in_file = text if "[" in text or "," not in text else f"[{text}]"
    recipe = load_recipe(write(f"{SMALL}logging: {in_file}\n"))[1]
    assert recipe.logging == names
    assert recipe_from_tree(recipe_to_tree(recipe)) == recipe


@pytest.mark.parametrize("name", ["none", "tensorboard"])
def test_logging_of_one_tracker_is_written_as_it_was_before_there_were_several(small, name):
    assert recipe_to_tree(load_recipe(small, [f"logging={name}"])[1])["logging"] == name


@pytest.mark.parametrize("overrides", [["logging=tensorbord"], ["logging=[csv,tensorbord]"]])
def test_tracker_that_is_not_there_is_refused_with_those_that_are(small, overrides):
    text = problem(small, *overrides)
    assert "logging: expected one or several of none, tensorboard, csv, mlflow" in text
    assert text.endswith("got 'tensorbord'. Did you mean 'tensorboard'?")


@pytest.mark.parametrize("text", ["[csv, csv]", "[none, csv]", "[]"])
def test_trackers_are_named_once_and_none_alone(small, text):
    assert "logging: expected" in problem(small, f"logging={text}")


def test_recipe_of_a_run_is_read_where_its_tracker_is_not_installed(write):
    name = write(f"{SMALL}logging: [csv, of-a-package]\n")
    assert "'of-a-package'" in problem(name)
    (Path(name).parent / "manifest.json").write_text("{}")
    assert load_recipe(name)[1].logging == ["csv", "of-a-package"]
    assert "'other'" in problem(name, "logging=other")
