"""The report of a classification: accuracy, the run's folders result, and warnings."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mamlcli.deploy.report import PredictionRequest, accuracy_of, image_warnings, predicted_images, size_warnings
from mamlcli.deploy.tables import prediction_notes
from mamlcli.runs.folder import RunDirectory
from mamlcli.tasks.images.ink import ImageRecord
from mamlcli.tasks.images.own import OwnImages
from mamlcli.tasks.images.reading import Preprocessing
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


def own_images(*class_names, extent=None, odd=()):
    """Return images that differ, as if they were read from files."""
    paths = tuple(Path(f"{index}.png") for index in range(len(class_names)))
    pixels = np.arange(len(class_names), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return OwnImages(Path("x"), paths, class_names, pixels, False, "", extent, odd, [])


def test_accuracy_is_over_images_of_known_class():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7]])
    predictions = predicted_images(own_images("a", "a", None, "z"), ["a", "b"], probabilities)
    assert [(row.predicted, row.true) for row in predictions] == [("a", "a"), ("b", "a"), ("a", None), ("b", None)]
    assert predictions[1].probabilities == {"a": 0.4, "b": 0.6}
    accuracy = accuracy_of(predictions)
    assert (accuracy.num_right, accuracy.num_images) == (1, 2)
    assert accuracy_of(predictions[2:]) is None


@pytest.mark.parametrize(
    ("extent", "is_warned"), [(0.5, False), (0.41, False), (0.39, True), (0.62, False), (0.63, True)]
)
def test_drawings_a_quarter_larger_or_smaller_than_the_runs_are_warned_of(extent, is_warned):
    record = ImageRecord(Preprocessing(28, 1), extent=0.5, border=0.0)
    warnings = size_warnings(own_images("a", extent=extent), own_images("a"), record)
    assert bool(warnings) == is_warned
    assert not warnings or f"support drawings fill {extent:.0%} of their frame, those of the run 50%" in warnings[0]


def test_sizes_are_not_compared_where_a_run_has_no_drawings():
    record = ImageRecord(Preprocessing(28, 3), extent=None, border=0.0)
    assert size_warnings(own_images("a", extent=0.1), own_images("a", extent=0.9), record) == []


def test_query_folders_of_other_names_alone_are_no_mistake():
    request = PredictionRequest(Path("support"), Path("query"))
    support, query = own_images("a", "b"), replace(own_images("x", "y"), images=np.full((2, 1, 1, 1), 9, np.uint8))
    assert image_warnings(support, query, ["a", "b"], request) == []


def test_of_many_images_on_another_ground_five_are_named():
    request = PredictionRequest(Path("support"), Path("query"))
    query = own_images(*["a"] * 9, odd=tuple(Path(f"odd{index}.png") for index in range(6)))
    [warning] = image_warnings(own_images(), query, ["a"], request)
    assert warning.startswith("6 of 9 query images have another ground (bright or dark) than most")
    assert warning.endswith("odd0.png, odd1.png, odd2.png, odd3.png, odd4.png, ...")
