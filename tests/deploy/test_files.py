"""Files of predictions: CSV, JSON and the sheet."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from mamlcli.common.errors import MamlError
from mamlcli.deploy.files import check_outputs, write_predictions, write_sheet
from tests.helpers.predictions import predict, shown_table


def test_csv_has_a_line_for_each_image(run, folders, tmp_path):
    import csv

    predictions = predict(run, folders)
    write_predictions(predictions.report, tmp_path / "new" / "out.csv")
    with (tmp_path / "new" / "out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["image", "predicted", "true", "p(a)", "p(b)", "p(c)"]
    assert [row["image"] for row in rows] == [row["image"] for row in predictions.report.to_json()["predictions"]]
    written = np.array([[float(row[f"p({name})"]) for name in "abc"] for row in rows])
    np.testing.assert_allclose(written, predictions.probabilities, atol=1e-6)


def test_json_is_the_report(run, folders, tmp_path):
    predictions = predict(run, folders)
    report = predictions.report.to_json()
    write_predictions(predictions.report, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == report


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are text there")
def test_name_that_is_no_text_can_be_written(run, folders, tmp_path):
    bad = os.fsdecode(os.fsencode(folders / "query" / "a") + b"/\xff.png")
    os.rename(folders / "query" / "a" / "q0.png", bad)
    predictions = predict(run, folders)
    for suffix in ("csv", "json"):
        write_predictions(predictions.report, tmp_path / f"out.{suffix}")
        assert "\\udcff.png" in (tmp_path / f"out.{suffix}").read_text().replace("\\\\", "\\")
    assert shown_table(predictions.report, width=80)


@pytest.mark.parametrize(("name", "option"), [("x.txt", "out"), ("x", "out"), ("x.jpg", "sheet")])
def test_files_of_unknown_kind_are_refused_before_anything_is_computed(tmp_path, name, option):
    with pytest.raises(MamlError, match=f"--{option}.*expected a file name that ends in"):
        check_outputs(**{"out": None, "sheet": None} | {option: tmp_path / name})


def test_folder_as_file_is_refused(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(MamlError, match="expected a file, got a folder"):
        check_outputs(tmp_path / "x.csv", None)


def test_sheet_shows_every_image_under_its_prediction(run, folders, tmp_path):
    predictions = predict(run, folders)
    write_sheet(predictions, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    # 12 pixels enlarged 7 times, a frame of 3 and a gap of 4 on each cell: three columns of 94.
    assert pixels.shape[1] > 3 * 94
    flat = {tuple(image.reshape(-1)) for image in (*predictions.support.images, *predictions.query.images)}
    assert len(flat) == 6 + 9
    small = pixels[:, :, :]
    corners = [tuple(image[0, 0]) for image in predictions.query.images]
    assert all((small == corner).all(axis=-1).sum() >= 49 for corner in corners)
