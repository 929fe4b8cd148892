"""The bench's files: its figure and its report."""

import json

import pytest

from mamlcli.bench.figure import save_report
from mamlcli.common.errors import RunError
from tests.helpers.benches import made_up_report


def test_figure_is_a_png_of_every_case(tmp_path):
    report = made_up_report()
    paths = save_report(report, figure=tmp_path / "own" / "x.png", folder=tmp_path / "out")
    assert [path.name for path in paths] == ["x.png", "bench.json", "bench.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (paths[0], paths[2]))
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == report.to_json()
    assert save_report(report, figure=None, folder=None) == []


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match="expected a place that can be written"):
        save_report(made_up_report(), figure=None, folder=tmp_path / "taken")
