"""Tables and JSON of shipped models."""

from __future__ import annotations

import dataclasses
import json

import pytest

from mamlcli.runs.entry import read_run
from mamlcli.runs.manifest import Manifest
from mamlcli.runs.model_tables import model_record, model_row, models_table
from mamlcli.runs.models import model_folder
from tests.helpers.models import GLYPHS
from tests.helpers.run_folders import shown


@pytest.fixture
def model():
    return read_run(model_folder(GLYPHS))


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_is_legible_at_every_width(model, width):
    long = dataclasses.replace(model, name="cifar-fs-5way-5shot@10", wall_s=9000.0)
    protocol = dataclasses.replace(model.report.protocol, split="validation")
    long = dataclasses.replace(long, report=dataclasses.replace(model.report, protocol=protocol))
    lines = shown(models_table([model, long]), width).splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    [row] = [line for line in lines if "cifar" in line]
    for words in ("cifar-fs-5way-5shot@10", "5-way 1-shot,", "93.4 ± 0.6 %", "2.5 h", " kB"):
        assert words in row
    assert lines[lines.index(row) + 1].strip() == "validation"


def test_a_row_says_what_was_measured_by_which_training(model):
    row = model_row(model)
    report = json.loads((model.path / "evaluation.json").read_text())
    assert (row["name"], row["recipe"], row["source"]) == (GLYPHS, "glyphs-5way-1shot", "glyphs")
    assert {key: row[key] for key in ("ways", "shots", "queries", "split", "num_tasks", "inner_steps")} == {
        key: report["protocol"][key] for key in ("ways", "shots", "queries", "split", "num_tasks", "inner_steps")
    }
    assert (row["accuracy"], row["loss"]) == (report["final"]["accuracy"], report["final"]["loss"])
    assert row["seeds"] == [0]
    assert row["size_bytes"] == sum(path.stat().st_size for path in model.path.rglob("*.*") if path.is_file())
    assert row["wall_s"] == model.manifest["wall_s"]


def test_a_record_holds_recipe_protocol_result_references_and_card(model):
    record, report = model_record(model), json.loads((model.path / "evaluation.json").read_text())
    assert record["protocol"] == report["protocol"]
    assert record["references"] == report["references"]
    assert record["result"]["final"] == report["final"]
    assert record["recipe_keys"]["inner"]["lr"] == 0.4
    assert record["card"] == (model.path / "README.md").read_text()
    assert record["name"] == GLYPHS


def test_a_regression_has_a_loss_and_counts_points(model):
    final = dataclasses.replace(model.report.final, accuracy=None, support_accuracy=None)
    point = dataclasses.replace(model.report.curve[-1], scores=final)
    protocol = dataclasses.replace(model.report.protocol, ways=None, shots=10, per_class=False)
    report = dataclasses.replace(model.report, protocol=protocol, curve=(point,))
    regression = dataclasses.replace(model, report=report, manifest=Manifest({"seed": 1}))
    assert model_row(regression)["accuracy"] is None
    text = shown(models_table([regression]), 120)
    assert "10 points" in text
    assert "0.222 ± 0.012" in text
