"""The curves of meta-training are the numbers of the metrics, however a line is written."""

from __future__ import annotations

import json
import math

from mamlcli.runs import training_curves as module
from mamlcli.runs.metrics import metrics_line
from mamlcli.runs.training_curves import training_curves


def step(iteration, **changes):
    values = {"outer_loss": 1 / iteration, "accuracy": None, "grad_norm": 1e-05, "lr": 0.03, "elapsed_s": 0.5}
    return metrics_line({"kind": "step", "iteration": iteration, **values, **changes})


def curves_of(tmp_path, *lines):
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    return {name: curve.to_json() for name, curve in training_curves(tmp_path / "metrics.jsonl").items()}


def test_curves_are_the_numbers_of_the_metrics(runs):
    records = [json.loads(line) for line in (runs / "one" / "metrics.jsonl").read_text().splitlines()]
    curves = training_curves(runs / "one" / "metrics.jsonl")
    steps = [record for record in records if record["kind"] == "step"]
    assert curves["outer loss"].value.tolist() == [record["outer_loss"] for record in steps]
    assert curves["outer accuracy"].value.tolist() == [record["accuracy"] for record in steps]
    scores = [record["accuracy"] for record in records if record["kind"] == "validation"]
    assert curves["meta-validation accuracy"].value.tolist() == scores
    assert curves["meta-validation loss"].iteration.tolist() == [1, 2]


def test_lines_of_steps_are_not_read_as_json(runs, monkeypatch):
    read = []
    real = module.records_in
    monkeypatch.setattr(module, "records_in", lambda piece: read.append(piece) or real(piece))
    training_curves(runs / "one" / "metrics.jsonl")
    assert b"validation" in b"".join(read)
    assert b"step" not in b"".join(read)


def test_a_line_written_otherwise_is_read_as_json_in_its_place(tmp_path):
    other = '{"iteration": 2, "kind": "step", "outer_loss": 7}\n'
    curves = curves_of(tmp_path, step(1), other, step(3, outer_loss=math.nan), step(4, accuracy=0.5))
    assert curves["outer loss"]["iteration"] == [1, 2, 3, 4]
    assert curves["outer loss"]["value"][:2] == [1.0, 7.0]
    assert math.isnan(curves["outer loss"]["value"][2])
    assert curves["outer accuracy"] == {"iteration": [4], "value": [0.5]}


def test_lines_that_hold_no_record_are_left_out(tmp_path):
    odd = ("[" * 30000 + "\n", step(2, outer_loss=10**400), '{"kind": "step", "iteration": 3, "outer_loss": 1-2}\n')
    for line in (*odd, '{"kind": "step"', "\n", "null\n", step(2, outer_loss="low"), step(2).replace("0.5,", "1-2,")):
        assert curves_of(tmp_path, step(1), line)["outer loss"]["iteration"] == [1]


def test_metrics_that_cannot_be_read_have_no_curves(tmp_path):
    assert training_curves(tmp_path / "metrics.jsonl") == {}
    assert training_curves(tmp_path) == {}
