"""`mamlcli recipes`, run as a user would."""

from __future__ import annotations

import json

import pytest

from mamlcli.recipe.files import load_recipe, shipped_recipes

SHIPPED = shipped_recipes()


def test_ls_lists_every_shipped_recipe_with_what_it_is(cli):
    rows = json.loads(cli("recipes", "ls", "--json").out)
    assert [row["name"] for row in rows] == list(SHIPPED)
    assert all(row["summary"] for row in rows)
    references = {row["name"]: row["reference"] for row in rows}
    assert references["omniglot-5way-1shot-full"]["value"] == 98.7
    assert references["folder"] is None
    table = cli("recipes", "ls").out
    assert all(name in table for name in SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_show_prints_the_file_as_it_is(cli, name):
    assert cli("recipes", "show", name).out == SHIPPED[name].read_text()


def test_show_resolved_prints_every_key(cli, tmp_path):
    (tmp_path / "all.yaml").write_text(cli("recipes", "show", "glyphs-5way-1shot", "--resolved").out)
    assert "class_split: scripts" in (tmp_path / "all.yaml").read_text()
    assert load_recipe(str(tmp_path / "all.yaml"))[1] == load_recipe("glyphs-5way-1shot")[1]


def test_cp_makes_a_recipe_of_ones_own(cli, tmp_path):
    ended = cli("recipes", "cp", "logistic", "mine.yaml")
    assert ended.code == 0
    assert "mamlcli train mine.yaml" in ended.err
    assert (tmp_path / "mine.yaml").read_bytes() == SHIPPED["logistic"].read_bytes()
    assert "recipe.schema.json, by which editors complete and check mine.yaml" in ended.err
    assert (tmp_path / "recipe.schema.json").read_text() == cli("recipes", "schema").out


def test_a_second_copy_says_nothing_of_the_schema_that_is_there(cli, tmp_path):
    cli("recipes", "cp", "logistic", "mine.yaml")
    assert "schema" not in cli("recipes", "cp", "sinusoid", "other.yaml").err


def test_cp_of_a_recipe_without_the_line_for_editors_adds_it(cli, tmp_path):
    text = "# Mine\ntasks: {source: logistic}\nmodel: {kind: mlp}\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-16")
    (tmp_path / "below").mkdir()
    assert cli("recipes", "cp", "mine.yaml", "below/copy.yaml").code == 0
    line = "# yaml-language-server: $schema=recipe.schema.json\n"
    assert (tmp_path / "below" / "copy.yaml").read_text(encoding="utf-8") == line + text
    assert (tmp_path / "below" / "recipe.schema.json").is_file()


def test_cp_leaves_another_file_of_that_name_and_warns(cli, tmp_path):
    (tmp_path / "recipe.schema.json").write_text("mine")
    ended = cli("recipes", "cp", "logistic", "mine.yaml")
    assert ended.code == 0
    assert "warning: recipe.schema.json: expected a new file, got another file." in ended.err
    assert "Editors will not check mine.yaml" in ended.err
    assert (tmp_path / "recipe.schema.json").read_text() == "mine"
    assert (tmp_path / "mine.yaml").read_bytes() == SHIPPED["logistic"].read_bytes()


def test_schema_is_printed_or_written(cli, tmp_path):
    printed = cli("recipes", "schema")
    assert printed.code == 0
    assert json.loads(printed.out)["title"] == "mamlcli recipe"
    for _ in range(2):  # one of ours is replaced
        ended = cli("recipes", "schema", "--out", "s.json")
        assert (ended.code, ended.out) == (0, "")
        assert "Written: s.json" in ended.err
        assert "# yaml-language-server: $schema=s.json" in ended.err
        assert (tmp_path / "s.json").read_text() == printed.out


def test_schema_overwrites_nothing_and_makes_no_folder(cli, tmp_path):
    (tmp_path / "mine.json").write_text("mine")
    for target, expected in (
        ("mine.json", "mine.json: expected a new file, got another file. Name another"),
        (".", ".: expected a new file, got a folder. Name another"),
        ("nothing/s.json", "nothing/s.json: expected a place that can be written, got no such file or directory"),
    ):
        ended = cli("recipes", "schema", "--out", target)
        assert (ended.code, ended.out) == (1, "")
        assert ended.errors[0].startswith(expected)
    assert (tmp_path / "mine.json").read_text() == "mine"


def test_cp_overwrites_nothing(cli, tmp_path):
    (tmp_path / "mine.yaml").write_text("mine")
    for target in ("mine.yaml", "."):
        ended = cli("recipes", "cp", "logistic", target)
        assert ended.code == 1
        assert "expected a new file, got one that exists" in ended.errors[0]
    assert (tmp_path / "mine.yaml").read_text() == "mine"


def test_cp_to_a_place_that_cannot_be_written_is_refused(cli):
    ended = cli("recipes", "cp", "logistic", "nothing/mine.yaml")
    assert ended.code == 1
    assert ended.errors[0].startswith("nothing/mine.yaml: expected a place that can be written")


@pytest.mark.parametrize("command", [["show"], ["check"], ["cp"]])
def test_unknown_recipe_is_refused_with_the_nearest_name(cli, command):
    target = ["new.yaml"] if command == ["cp"] else []
    ended = cli("recipes", *command, "logistics", *target)
    assert ended.code == 1
    assert "Did you mean 'logistic'?" in ended.errors[0]


def test_check_accepts_every_shipped_recipe(cli):
    ended = cli("recipes", "check", *SHIPPED)
    assert ended.code == 0
    assert ended.out.splitlines() == [f"{name}: ok" for name in SHIPPED]


def test_check_tells_all_errors_of_all_files(cli, tmp_path):
    (tmp_path / "a.yaml").write_text("tasks: {source: logistic, shots: 0}\nmodel: {kind: mlp, depth: 0}\n")
    (tmp_path / "b.yaml").write_text("")
    ended = cli("recipes", "check", "a.yaml", "logistic", "b.yaml")
    assert ended.code == 1
    assert ended.out == "logistic: ok\n"
    assert [line.split(" ")[0] for line in ended.errors] == ["a.yaml:1:", "a.yaml:2:", "b.yaml:"]


def test_show_of_a_recipe_with_errors_shows_the_errors(cli, tmp_path):
    (tmp_path / "a.yaml").write_text("tasks: {source: logistic}\nmodel: {kind: mlp, depth: 0}\n")
    ended = cli("recipes", "show", "a.yaml")
    assert (ended.code, ended.out) == (1, "")
    assert "a.yaml:2: model.depth" in ended.errors[0]
