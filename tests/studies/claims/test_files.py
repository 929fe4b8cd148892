"""The files that a reproduction leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mamlcli.studies.claims.decisions import Prediction
from mamlcli.studies.claims.files import write_report
from mamlcli.studies.claims.predictions import decided
from mamlcli.studies.claims.scales import smoke
from tests.helpers.claims import finished_study
from tests.helpers.studies import grid_result


@pytest.fixture
def folder(tmp_path):
    """A folder with the report of one decided claim on one study, and of one study that has no cell."""
    claim = decided("C2", "Deeper is better.", "It falls.", [Prediction("slope", np.array([-1.1, -1.0, -0.9]), -1)])
    study = finished_study({}, cells=grid_result().cells)
    empty = replace(finished_study({}, key="logistic"), words="logistic regression")
    content = {"claims": [{"id": "C2"}]}
    write_report(tmp_path, smoke(), 2, [claim], [study, empty], ["omniglot: its pack is not here"], content)
    return tmp_path


def test_files_are_the_report_in_both_forms_its_figures_and_its_json(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.md", "report.html", "result.json", "glyphs-maml.png", "glyphs-maml.svg"}
    assert json.loads((folder / "result.json").read_text()) == {"claims": [{"id": "C2"}]}


def test_report_says_the_scale_what_was_left_out_and_on_what_versions(folder):
    text = (folder / "report.md").read_text()
    assert "claims C1 to C7 at scale smoke" in text
    assert "2 seeds of every cell" in text
    assert "Left out: omniglot: its pack is not here." in text
    assert "| torch |" in text
    assert "C2: holds" in text


def test_recipe_of_each_study_is_in_the_report(folder):
    text = (folder / "report.md").read_text()
    assert "Recipe of glyphs, MAML, before the changes of each cell" in text
    assert "Recipe of logistic regression, before the changes of each cell" in text
    assert text.count("```yaml") == 2
