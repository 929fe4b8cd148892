"""The files that a reproduction leaves."""

import json

import pytest

from mamlcli.common.figures import new_figure
from mamlcli.studies.claims import files
from mamlcli.studies.claims.files import appendix_of, forest_picture, settings_of, write_report
from tests.helpers.made_reproduction import made_reproduction


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the report of a reproduction made by hand."""
    path = tmp_path_factory.mktemp("report")
    write_report(path, made_reproduction())
    return path


def test_files_are_the_report_in_both_forms_its_figures_its_table_and_its_json(folder):
    figures = {f"{name}.{kind}" for name in ("forest", *(f"c{i}" for i in range(1, 8))) for kind in ("png", "svg")}
    others = {"report.md", "report.html", "claims.csv", "result.json", "forest-narrow.png", "forest-deciding.png"}
    assert {path.name for path in folder.iterdir()} == figures | others
    assert json.loads((folder / "result.json").read_text())["scale"] == "laptop"


def test_report_names_its_figures_its_recipes_and_its_command(folder):
    text = (folder / "report.md").read_text()
    assert "](forest.png)" in text
    assert "](c7.png)" in text
    assert "Recipe of glyphs, MAML, before the changes of each cell" in text
    assert f"mamlcli reproduce --dir {folder.name} --report" in text


def test_the_command_can_be_pasted_into_a_shell(tmp_path):
    done = made_reproduction()
    assert appendix_of(tmp_path / "a b", done, {}).command == "mamlcli reproduce --dir 'a b' --report"


def test_operators_that_are_not_shown_have_a_reason(folder):
    text = (folder / "report.md").read_text()
    assert "Operators of image networks, glyphs, MAML: not shown: there is no finished run with KFO" in text


def test_the_small_forest_has_the_rows_that_decide_alone(monkeypatch):
    drawn = []
    monkeypatch.setattr(files, "forest_figure", lambda claims, *of: drawn.append(claims) or new_figure(1.0, 1.0))
    done = made_reproduction()
    assert forest_picture(done, of_deciding=True).name == "forest-deciding.png"
    assert [claim.rows for claim in drawn[0]] == [claim.deciding for claim in done.claims]


def test_settings_are_those_of_the_cells_and_name_all_where_they_differ(tmp_path, monkeypatch):
    class Run:
        def __init__(self, version):
            self.manifest = type("M", (), {"versions": {"torch": version}, "device": "cpu"})

    monkeypatch.setattr("mamlcli.studies.claims.files.runs_of", lambda study: [Run("2.5"), Run("2.6"), Run("2.5")])
    assert settings_of([None]) == {"torch": "2.5; 2.6", "device": "cpu"}
