"""What is wrong with a recipe: all of it at once, each with its place, what was expected, and the nearest name."""

from __future__ import annotations

import pytest

from mamlcli.recipe.problems import Draft
from tests.helpers.recipes import SMALL, problem, problems

# Places ---------------------------------------------------------------------------------------------------------------


def test_all_errors_of_a_file_come_at_once_with_their_lines(write):
    name = write(
        "seed: x\n"
        "tasks:\n"
        "  source: logistic\n"
        "  shots: 0\n"
        "model:\n"
        "  kind: mlp\n"
        "  depth: 0\n"
        "  widht: 3\n"
        "inner: {lr: -1}\n"
        "outre: 3\n"
    )
    texts = problems(name)
    assert [text.split(" ")[0] for text in texts] == [
        "r.yaml:1:",
        "r.yaml:4:",
        "r.yaml:7:",
        "r.yaml:8:",
        "r.yaml:9:",
        "r.yaml:10:",
    ]
    assert texts[0] == "r.yaml:1: seed: expected an integer, got 'x'."
    assert texts[2] == "r.yaml:7: model.depth: expected an integer >= 1, got 0."
    assert texts[4] == "r.yaml:9: inner.lr: expected a number > 0, got -1."


def test_missing_sections_are_both_named(write):
    assert [text.split(": ")[1] for text in problems(write("seed: 1\n"))] == ["tasks", "model"]


def test_error_of_an_override_is_on_the_command_line(small):
    assert problem(small, "inner.steps=0") == "command line: inner.steps: expected an integer >= 1, got 0."


def test_error_below_an_overridden_section_is_on_the_command_line(small):
    assert problem(small, "model={kind: mlp, depth: 0}").startswith("command line: model.depth:")


def test_errors_of_file_and_overrides_come_together(write):
    texts = problems(write(f"{SMALL}seed: x\n"), "inner.lr=-1", "nonsense", "inner.steps=[1")
    assert sorted(text.split(":")[0] for text in texts) == ["command line"] * 3 + ["r.yaml"]


# Names ----------------------------------------------------------------------------------------------------------------


def test_unknown_key_is_refused_with_the_nearest_name(small):
    line = problem(small, "inner.stpes=3")
    assert line.startswith("command line: inner.stpes: expected a known key, got 'stpes'. Did you mean 'steps'?")
    assert "The keys are algorithm, lr, steps" in line


def test_unknown_key_at_the_top_is_refused_with_the_nearest_name(write):
    line = problem(write(f"{SMALL}evalution: {{tasks: 3}}\n"))
    assert line.startswith("r.yaml:3: evalution:")
    assert "Did you mean 'evaluation'?" in line


def test_key_of_another_source_is_unknown(small):
    line = problem(small, "tasks.ways=5")
    assert "expected a known key, got 'ways'" in line
    assert "label_noise" in line


@pytest.mark.parametrize(("key", "near"), [("tasks.source=sinusiod", "sinusoid"), ("model.kind=cn", "cnn")])
def test_unknown_source_or_kind_is_refused_with_the_names_there_are(small, key, near):
    line = problem(small, key)
    assert f"Did you mean '{near}'?" in line
    assert "expected one of" in line


def test_section_without_source_or_kind_lists_them(write):
    texts = problems(write("tasks: {shots: 3}\nmodel: {depth: 3}\n"))
    assert texts[0].startswith("r.yaml:1: tasks.source: expected one of glyphs, omniglot")
    assert texts[1].startswith("r.yaml:2: model.kind: expected one of cnn, mlp, linear, python, got nothing")


@pytest.mark.parametrize("value", ["3", "text", "null", "[1]"])
def test_section_that_is_no_section_is_refused(small, value):
    for key in ("tasks", "model", "inner"):
        assert f"command line: {key}: expected keys and values" in problem(small, f"{key}={value}")


# Conflicts ------------------------------------------------------------------------------------------------------------


def test_transform_of_no_parameters_is_refused(small):
    line = problem(small, "inner.transform=kfo", "inner.transform.parameters=[]")
    assert "expected at least one entry" in line


@pytest.mark.parametrize(
    ("recipe", "override", "key"),
    [
        ("sinusoid", "model={kind: cnn}", "model.kind"),
        ("logistic", "inner={algorithm: fomaml, first_order: false}", "inner.first_order"),
        ("logistic", "inner.joint_features=true", "inner.joint_features"),
        ("logistic", "inner.transform.adapted=true", "inner.transform.adapted"),
        ("cifar-fs-5way-5shot", "tasks.class_split=vinyals", "tasks.class_split"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(recipe, override, key):
    assert problem(recipe, override).startswith(f"command line: {key}: expected")


def test_conflict_in_a_file_names_its_line(write):
    line = problem(write("tasks: {source: sinusoid}\nmodel:\n  kind: cnn\n"))
    assert line.startswith("r.yaml:3: model.kind: expected mlp or linear")


# Drafts ---------------------------------------------------------------------------------------------------------------


def draft(**settings):
    return Draft("r", "r.yaml", {}, {("inner",): 3, ("inner", "lr"): 4}, **settings)


def test_place_is_the_line_of_the_key_or_of_the_section_that_holds_it():
    assert draft().place(("inner", "lr")) == "r.yaml:4: inner.lr"
    assert draft().place(("inner", "steps")) == "r.yaml:3: inner.steps"
    assert draft().place(("outer",)) == "r.yaml: outer"


def test_place_of_an_override_is_where_it_was_given():
    overridden = draft(overridden={("inner",)}, overridden_by="--set")
    assert overridden.place(("inner", "lr")) == "--set: inner.lr"
    assert overridden.place(("outer",)) == "r.yaml: outer"


def test_names_in_a_list_are_told_as_those_of_a_key_with_the_nearest():
    found = problem("cifar-fs-5way-5shot", "tasks.augment=[flip, color]")
    assert found == (
        "command line: tasks.augment: expected 'flip', 'crop' or 'colour', got 'color'. Did you mean 'colour'?"
    )
    assert problem("cifar-fs-5way-5shot", "tasks.augment=flop").endswith("got 'flop'. Did you mean 'flip'?")


def test_nearest_name_of_a_closed_set_is_told():
    found = problem("logistic", "outer.optimizer=adm")
    assert found.endswith("expected 'adam' or 'sgd', got 'adm'. Did you mean 'adam'?")


def test_misspelt_section_of_an_override_is_on_the_command_line(small):
    line = problem("sinusoid", "innner.lr=0.5")
    assert line.startswith("command line: innner: expected a known key, got 'innner'. Did you mean 'inner'?")
    assert problem(small, "inner.transfrom.name=kfo").startswith("command line: inner.transfrom: expected a known key")


def test_misspelt_section_of_the_file_stays_in_the_file_if_an_override_is_below_it(write):
    line = problem(write(f"{SMALL}innner:\n  steps: 3\n"), "innner.lr=0.5")
    assert line.startswith("r.yaml:3: innner:")


def test_key_that_is_no_section_is_blamed_on_the_override_below_it(write):
    line = problem(write(f"{SMALL}seed: 1\n"), "seed.x=2")
    assert line == "command line: seed: expected an integer, got {'x': 2}."


# How YAML is mended ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["@data", "%x", "`x`", "*best", "*.bias", "photos: new", "!x", "- a"])
def test_text_that_is_yaml_of_another_kind_is_told_to_be_put_into_quotes(write, text):
    lines = problems(write(f"tasks:\n  source: folder\n  path: {text}\nmodel: {{kind: cnn}}\n"))
    assert "Put a text with characters that YAML uses itself" in lines[0]
    assert lines[0].startswith("r.yaml:3:")


def test_text_in_brackets_is_told_to_be_put_into_quotes(write):
    lines = problems(write("tasks: {source: folder, path: [v2]}\nmodel: {kind: cnn}\n"))
    assert lines == ["r.yaml:1: tasks.path: expected text, got ['v2']. A text with brackets goes into quotes."]


def test_tab_is_named(write):
    assert "Indent with spaces; YAML takes no tabs." in problem(write("tasks:\n\tsource: logistic\n"))
