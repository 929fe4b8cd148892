"""The table of predictions and the notes below it."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from mamlcli.common.statistics import proportion
from mamlcli.deploy.files import write_predictions
from mamlcli.deploy.report import ImagePrediction, ImageSet, LeaveOneOut
from mamlcli.deploy.tables import prediction_notes, prediction_title
from tests.helpers.image_files import noise, save
from tests.helpers.predictions import made_up_report, predict, shown_table


@pytest.mark.parametrize("num_long", [0, 3])
def test_table_fits_80_columns(run, folders, num_long):
    for name in "abc"[:num_long]:
        for part in ("support", "query"):
            (folders / part / name).rename(folders / part / (f"a class of a very long name, the one of {name}"))
    predictions = predict(run, folders)
    report = predictions.report.to_json()
    text = shown_table(predictions.report, width=80)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for row in report["predictions"]:
        assert f"{row['probabilities'][row['predicted']]:.2f}" in text
    assert ("p1: a class of" in text) == bool(num_long)


def test_many_classes_show_the_best_three():
    classes = tuple(f"class {number}" for number in range(12))
    probabilities = {name: 0.9 if name == "class 3" else 0.1 / 11 for name in classes}
    row = ImagePrediction("q/x.png", "class 3", None, probabilities)
    report = made_up_report(classes=classes, predictions=(row,))
    text = shown_table(report, width=80)
    assert "class 3" in text
    assert "class 0 0.01, class 1 0.01" in text


STRANGE = ("with space", "line\nend", "буква", "字", "x" * 60, "[red]")


def test_strange_names_are_kept_in_files_and_escaped_in_the_table(run, folders, tmp_path):
    for name in STRANGE:
        save(folders / "query" / "a" / f"{name}.png", noise(12, 12, 3))
    (folders / "support" / "b").rename(folders / "support" / "д\n[b]")
    predictions = predict(run, folders)
    write_predictions(predictions.report, tmp_path / "out.json")
    names = [os.path.basename(row["image"]) for row in json.loads((tmp_path / "out.json").read_text())["predictions"]]
    assert {f"{name}.png" for name in STRANGE} <= set(names)
    text = shown_table(predictions.report, width=80)
    assert "\\nend.png" in text
    assert "[red].png" in text
    assert "д\\n[b]" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_title_counts_images_classes_and_shots():
    assert prediction_title(made_up_report()) == (
        "glyphs-5way-1shot: 1 image by 2 classes of support images, 1 to 2 each"
    )
    query = ImageSet("query", 7, False, "")
    assert prediction_title(made_up_report(shots={"a": 4, "b": 4}, query=query)).endswith(
        "7 images by 2 classes of support images, 4 each"
    )


def test_rows_beyond_fifty_are_counted_and_not_shown():
    row = made_up_report().predictions[0]
    rows = tuple(replace(row, image=f"query/{index}.png") for index in range(53))
    text = shown_table(made_up_report(predictions=rows), width=80)
    assert "49.png" in text
    assert "50.png" not in text
    assert "3 more images: --out predictions.csv has them all" in " ".join(text.split())


def test_long_names_lose_their_middle_and_long_paths_their_start():
    name, image = "a class of a very long name, the first", "query/folder/of/drawings/of/someone/x.png"
    row = ImagePrediction(image, name, None, {name: 1.0, "b": 0.0})
    text = shown_table(made_up_report(classes=(name, "b"), predictions=(row,)), width=80)
    assert "a class.. first" in text
    assert " ..wings/of/someone/x.png" in text


def test_notes_say_what_the_softmax_is_over_and_where_batch_norm_takes_its_statistics():
    notes = prediction_notes(made_up_report())
    assert "the mean over 5 assignments; the softmax is over 2 of the head's 5 outputs" in notes
    assert "no prediction depends on another query image" in notes
    assert "the middle square, 28x28, grey, lanczos, scaled to [0, 1]" in notes
    notes = prediction_notes(made_up_report(num_outputs=2, batch_norm="group", frame="ink"))
    assert "softmax is over" not in notes
    assert "batch norm" not in notes
    assert "the square around the ink" in notes


def test_accuracy_stands_with_its_interval_and_its_count():
    # Wilson's interval of 9 of 10: 0.596 to 0.982.
    words = "9 of 10 right, 90 % (95 % interval over images 60 to 98 %)"
    notes = prediction_notes(made_up_report(accuracy=proportion(9, 10)))
    assert f"Accuracy on the query images of known class: {words}." in notes
    notes = prediction_notes(made_up_report(leave_one_out=LeaveOneOut(proportion(9, 10), num_candidates=40)))
    assert f"classified by the others: {words} (10 of 40 were left out)." in notes
