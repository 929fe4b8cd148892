"""The tables of the tracker csv, read back."""

from __future__ import annotations

import csv
import json

import pytest

from mamlcli.training.planned import Progress
from mamlcli.training.trackers.csv_files import CsvFiles
from tests.helpers.running import report_of, train_tiny
from tests.helpers.trackers import tracked

KEYS = (
    "logging=csv",
    "outer.iterations=6",
    "outer.checkpoint_every=2",
    "validation.every=2",
    "validation.tasks=3",
)

pytestmark = pytest.mark.usefixtures("one_thread")


def rows(run, name):
    with (run / "trackers" / "csv" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_hold_the_metrics_the_scores_and_the_settings_of_the_run(tmp_path):
    run = train_tiny(tmp_path / "run", "logistic", *KEYS)
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if record["kind"] == "step"]
    found = rows(run.path, "steps.csv")
    assert [int(row["step"]) for row in found] == [1, 2, 3, 4, 5, 6]
    for key in ("outer_loss", "accuracy", "grad_norm", "lr"):
        assert [float(row[key]) for row in found] == [record[key] for record in steps]
    validations = [record["loss"] for record in records if record["kind"] == "validation"]
    assert [float(row["loss"]) for row in rows(run.path, "validation.csv")] == validations
    curve = report_of(run.path)["curve"]
    assert [float(row["query_loss"]) for row in rows(run.path, "scores.csv")] == [p["loss"]["mean"] for p in curve]
    assert {row["key"]: row["value"] for row in rows(run.path, "settings.csv")}["outer.iterations"] == "6"


class Cut(Exception):
    """The process ends here."""


@pytest.mark.parametrize(("kind", "iteration"), [("StepRecord", 5), ("StepRecord", 4), ("ValidationRecord", 4)])
def test_a_resumed_run_has_every_line_once(tmp_path, kind, iteration):
    def cut(record):
        if type(record).__name__ == kind and record.iteration == iteration:
            raise Cut

    with pytest.raises(Cut):
        train_tiny(tmp_path / "run", "logistic", *KEYS, progress=Progress(on_record=cut))
    train_tiny(tmp_path / "run", "logistic", *KEYS)
    train_tiny(tmp_path / "whole", "logistic", *KEYS)
    for name in ("steps.csv", "validation.csv", "scores.csv"):
        assert rows(tmp_path / "run", name) == rows(tmp_path / "whole", name)


def test_a_line_is_in_its_file_when_the_call_returns(tmp_path):
    tables = CsvFiles()
    tables.begin(tracked(tmp_path, "csv"))
    tables.record(1, {"outer_loss": 0.5, "other": 7.0})
    found = rows(tmp_path, "steps.csv")
    tables.end("done")
    assert found == [{"step": "1", "outer_loss": "0.5", "accuracy": "", "grad_norm": "", "lr": ""}]
