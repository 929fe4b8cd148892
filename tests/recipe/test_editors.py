"""The line by which editors find the schema, and the file that it names."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.recipe.editors import SCHEMA_FILE, editor_line, with_editor_line, without_editor_line, write_schema
from mamlcli.recipe.files import load_recipe, recipe_summary, shipped_recipes
from mamlcli.recipe.json_schema import schema_text

EDITOR_LINE = editor_line(SCHEMA_FILE)
TEXT = "# What it is\n#\n# More.\nseed: 0\n"


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_names_the_schema_beside_it_in_its_first_line(name):
    path = shipped_recipes()[name]
    assert path.read_text(encoding="utf-8").startswith(EDITOR_LINE)
    assert (path.parent / SCHEMA_FILE).is_file()
    assert recipe_summary(path)
    assert "yaml-language-server" not in recipe_summary(path)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        EDITOR_LINE + TEXT,
        "# yaml-language-server: $schema=../elsewhere.json\n" + TEXT,
        "#   yaml-language-server : $schema=https://example.org/s.json\n" + TEXT,
        TEXT.replace("#\n", "# yaml-language-server: $schema=x.json\n#\n"),
    ],
)
def test_the_line_stands_once_and_first(text):
    assert with_editor_line(text) == EDITOR_LINE + TEXT
    assert without_editor_line(text) == TEXT


@pytest.mark.parametrize("text", ["", "seed: 0", "path: '# yaml-language-server: x'\n", "# about it\n"])
def test_other_text_stays(text):
    assert without_editor_line(text) == text
    assert with_editor_line(text) == EDITOR_LINE + text


def test_a_recipe_with_the_line_is_read_as_without(write):
    text = "tasks: {source: logistic}\nmodel: {kind: mlp}\n"
    with_line = load_recipe(write(with_editor_line(text)))[1]
    assert load_recipe(write(text))[1] == with_line


def test_the_schema_is_written_once(tmp_path):
    assert write_schema(tmp_path / SCHEMA_FILE, schema_text()) is True
    assert (tmp_path / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text()
    assert write_schema(tmp_path / SCHEMA_FILE, schema_text()) is False


def test_an_earlier_schema_is_replaced(tmp_path):
    (tmp_path / SCHEMA_FILE).write_text(schema_text().replace("inner steps", "steps"), encoding="utf-8")
    assert write_schema(tmp_path / SCHEMA_FILE, schema_text()) is True
    assert (tmp_path / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("content", ["", "{}", "mine: 1\n", "{" + " " * 2000 + "Written by: mamlcli recipes schema}"])
def test_another_file_stays(tmp_path, content):
    path = tmp_path / SCHEMA_FILE
    path.write_text(content, encoding="utf-8")
    with pytest.raises(MamlError, match=r"recipe\.schema\.json: expected a new file, got another file\. Name another"):
        write_schema(path, schema_text())
    assert path.read_text(encoding="utf-8") == content


def test_a_folder_and_a_missing_folder_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(MamlError, match="expected a new file, got a folder"):
        write_schema(tmp_path / "folder", schema_text())
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for place in (tmp_path / "nothing" / "s.json", tmp_path / "file" / "s.json"):
        with pytest.raises(MamlError, match="expected a place that can be written"):
            write_schema(place, schema_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
