"""The table of predictions and the notes below it."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from mamlcli.deploy.files import write_predictions
from mamlcli.deploy.report import ImagePrediction
from tests.helpers.image_files import noise, save
from tests.helpers.predictions import predict, shown_table


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


def test_many_classes_show_the_best_three(run, folders):
    classes = tuple(f"class {number}" for number in range(12))
    probabilities = {name: 0.9 if name == "class 3" else 0.1 / 11 for name in classes}
    row = ImagePrediction("q/x.png", "class 3", None, probabilities)
    report = replace(predict(run, folders).report, classes=classes, predictions=(row,))
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
