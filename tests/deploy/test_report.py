"""The report of a classification: accuracy, the run's folders result, and warnings."""

from __future__ import annotations

import json
import shutil

import numpy as np
from PIL import Image

from mamlcli.deploy.tables import prediction_notes
from mamlcli.runs.folder import RunDirectory
from tests.helpers.image_files import drawing, save
from tests.helpers.predictions import predict


def test_meta_test_of_the_run_stands_beside_the_result(run, folders, tmp_path):
    predictions = predict(run, folders)
    report = predictions.report.to_json()
    expected = json.loads((run.path / "evaluation.json").read_text())
    assert report["meta_test"] == {"protocol": expected["protocol"], "accuracy": expected["final"]["accuracy"]}
    notes = prediction_notes(predictions.report)
    assert "3-way 1-shot" in notes
    assert "not calibrated" in notes
    copied = RunDirectory.open(shutil.copytree(run.path, tmp_path / "copy"))
    (copied.path / "evaluation.json").write_text("damaged")
    assert predict(copied, folders).report.to_json()["meta_test"] is None


def test_support_folder_as_query_is_warned_of(run, folders):
    assert (
        "the query folder is the support folder" in predict(run, folders, query=folders / "support").report.warnings[0]
    )
    shutil.copytree(folders / "support" / "a", folders / "query" / "a", dirs_exist_ok=True)
    assert "1 of 10 query images are support images, too" in predict(run, folders).report.to_json()["warnings"][0]


def test_query_folders_that_are_no_class_are_predicted_and_not_scored(run, folders):
    (folders / "query" / "a").rename(folders / "query" / "z")
    report = predict(run, folders).report.to_json()
    assert (len(report["predictions"]), report["accuracy"]["num_images"]) == (9, 6)
    assert any(text.endswith("not scored: z") for text in report["warnings"])


def test_drawings_of_both_grounds_in_one_folder_are_warned_of(runs, pages):
    save(pages / "support" / "a" / "other.png", 255 - drawing(16, seed=90))
    warnings = predict(runs["drawings"], pages).report.to_json()["warnings"]
    assert any("1 of 4 support images have another ground" in text and "other.png" in text for text in warnings)


def test_small_drawings_are_warned_of_and_cut_out_on_demand(runs, pages):
    for name in "abc":
        page = np.full((64, 80), 255, dtype=np.uint8)
        page[4:20, 50:66] = np.asarray(Image.open(pages / "support" / name / "0.png"))
        save(pages / "query" / name / "q.png", page)
    report = predict(runs["drawings"], pages).report.to_json()
    assert any("query drawings fill" in text and "--frame ink" in text for text in report["warnings"])
    cut = predict(runs["drawings"], pages, frame="ink")
    assert not [text for text in cut.report.to_json()["warnings"] if "fill" in text]
    assert np.abs(cut.query.images.astype(int) - cut.support.images).mean() < 6  # one pixel of shift at most
    assert cut.report.to_json()["accuracy"]["mean"] == 1.0
