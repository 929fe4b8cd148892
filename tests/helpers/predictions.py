"""Classifications of image folders that tests ask for, and what is shown of them."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from mamlcli.deploy.prediction import predict_run
from mamlcli.deploy.report import ImagePrediction, ImageSet, PredictionReport, PredictionRequest
from mamlcli.deploy.tables import prediction_table
from mamlcli.tasks.images.reading import Preprocessing
from tests.helpers.running import TINY_IMAGES
from tests.helpers.terminal import as_shown

# Keys of a run of images that is trained in a moment and still tells three classes apart.
TRAINING = (
    *TINY_IMAGES,
    "tasks.ways=3",
    "tasks.shots=1",
    "evaluation.split=train",
    "tasks.image_size=12",
    "inner.steps=3",
    "model.head=flatten",
    "model.width=8",
)


def predict(run, folders, **changes):
    """Classify the query folder by the support folder; changes are keys of the request."""
    request = PredictionRequest(folders / "support", folders / "query")
    return predict_run(run, replace(request, **changes))


def refused(error, run, folders, **changes):
    """Require a classification to be refused, and return the message."""
    with pytest.raises(error) as caught:
        predict(run, folders, **changes)
    return str(caught.value)


def skipped_of(report):
    """Return why each file was not taken, by its name."""
    return {os.path.basename(entry["file"]): entry["reason"] for entry in report["skipped"]}


def shown_table(report, *, width):
    """Return the table of a report as text."""
    return as_shown(prediction_table(report), width=width)


def made_up_report(**changes):
    """Return the report of one query image and two classes, with made-up numbers."""
    values = {
        "run": "runs/x",
        "recipe": "glyphs-5way-1shot",
        "weights": "best by meta-validation, iteration 9",
        "inner_steps": 3,
        "num_outputs": 5,
        "num_assignments": 5,
        "batch_norm": "batch",
        "depends_on_other_queries": False,
        "frame": "file",
        "preprocessing": Preprocessing(28, 1, invert=True),
        "support": ImageSet("support", 3, True, "bright ground here, dark ground in training"),
        "shots": {"a": 1, "b": 2},
        "query": ImageSet("query", 1, False, "dark ground here"),
        "classes": ("a", "b"),
        "predictions": (ImagePrediction("query/x.png", "b", None, {"a": 0.25, "b": 0.75}),),
        "accuracy": None,
        "leave_one_out": None,
        "meta_test": None,
        "skipped": (),
        "warnings": (),
    }
    return PredictionReport(**{**values, **changes})
