"""Classifications of image folders that tests ask for, and what is shown of them."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from rich.console import Console

from mamlcli.deploy.prediction import predict_run
from mamlcli.deploy.report import PredictionRequest
from mamlcli.deploy.tables import prediction_table
from tests.helpers.running import TINY_IMAGES

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
    console = Console(width=width, no_color=True, force_terminal=False, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(prediction_table(report))
        return console.export_text()
