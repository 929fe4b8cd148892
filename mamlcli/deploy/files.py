"""This module writes predictions to files: CSV, JSON, or a picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from mamlcli.common.disk import write_error
from mamlcli.common.errors import MamlError
from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.words import shown
from mamlcli.deploy.report import PredictionReport, Predictions
from mamlcli.tasks.images.sheets import PredictedImage, prediction_sheet, save_sheet

OUT_SUFFIXES = (".csv", ".json")


def check_outputs(out: Path | None, sheet: Path | None) -> None:
    """Check that results can be written to these files, before anything is computed.

    Raises:
        MamlError: a file of another kind, or a folder.
    """
    for option, path, suffixes in (("--out", out, OUT_SUFFIXES), ("--sheet", sheet, (".png",))):
        if path is None:
            continue
        where = f"{option} {shown(path)}"
        if path.suffix.lower() not in suffixes:
            expected = f"a file name that ends in {' or '.join(suffixes)}"
            raise MamlError(where, expected=expected, got=repr(path.suffix))
        if path.is_dir():
            raise MamlError(where, expected="a file", got="a folder")


def write_predictions(report: PredictionReport, path: Path) -> None:
    """Write predictions as CSV (a line for each image) or JSON (the whole report), as the file's suffix says."""
    text = json_text(report.to_json()) if path.suffix.lower() == ".json" else _csv(report)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text.encode())
    except OSError as error:
        raise write_error(
            error, f"--out {shown(path)}", expected="a file that can be written", kind=MamlError
        ) from error


def _csv(report: PredictionReport) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    classes = report.classes
    writer.writerow(["image", "predicted", "true", *(f"p({name})" for name in classes)])
    for row in report.predictions:
        values = (f"{row.probabilities[name]:.6f}" for name in classes)
        writer.writerow([row.image, row.predicted, row.true or "", *values])
    return out.getvalue()


def write_sheet(predictions: Predictions, path: Path) -> None:
    """Write a picture: the support images of each class, and below them the query images predicted to be of it."""
    classes = predictions.report.classes
    support = [predictions.support.images[predictions.labels == index] for index in range(len(classes))]
    query: list[list[PredictedImage]] = [[] for _ in classes]
    images, names = predictions.query.images, predictions.query.class_names
    for image, row, name in zip(images, predictions.probabilities, names, strict=True):
        index = int(row.argmax())
        is_right = classes[index] == name if name in classes else None
        query[index].append(PredictedImage(image, float(row[index]), is_right))
    save_sheet(prediction_sheet(support, query, [shown(name) for name in classes]), path)
