"""Results of the bench: ratios, and the JSON that programs read."""

from __future__ import annotations

import json

from mamlcli.bench.implementations import (
    AUTO,
    LOOP,
)
from mamlcli.bench.peers import PLAIN_LOOP
from mamlcli.bench.results import Ratio, ratios
from mamlcli.training.tuned import TimeSpread
from tests.helpers.benches import made_up_report, made_up_row


def test_ratios_are_peers_over_auto():
    def row(case, name, median, is_ours=False):
        return made_up_row(case, name, is_ours=is_ours, seconds=TimeSpread(median, 1.0, 9.0, 3))

    rows = [
        row("a", AUTO, 2.0, True),
        row("a", LOOP, 9.0, True),
        row("a", "higher", 6.0),
        row("a", PLAIN_LOOP, 5.0),
        row("b", AUTO, 1.0, True),
    ]
    assert ratios(rows, AUTO) == [
        Ratio("a", AUTO, "higher", speedup=3.0, is_fastest_peer=False),
        Ratio("a", AUTO, PLAIN_LOOP, speedup=2.5, is_fastest_peer=True),
    ]


def test_a_case_without_ours_or_without_a_peer_has_no_ratio():
    seconds = TimeSpread(1.0, 1.0, 1.0, 3)
    alone = [made_up_row("a", AUTO, is_ours=True, seconds=seconds)]
    assert ratios(alone, AUTO) == []
    assert ratios([made_up_row("a", "higher", is_ours=False, seconds=seconds)], AUTO) == []


def test_json_of_a_report_is_primitives():
    report = made_up_report()
    read = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert list(read) == ["machine", "settings", "rows", "ratios", "notes"]
    assert read["machine"]["torch"] == "2.15.0"
    assert read["machine"]["torchopt"] == "not installed"
    assert read["machine"]["matmul_gflop_per_s"] == {"1": 80.1, "2": 163.4}
    assert read["machine"]["copy_gb_per_s"] == {"1": 11.1, "2": 18.7}
    assert read["machine"]["load"] == {"before": [0.52, 0.61, 0.7], "after": [1.9, 1.2, 0.9], "by_others": 0.034}
    assert read["rows"][0]["execution"]["path"] == "batched"
    assert read["notes"] == ["left out: x"]


def test_rows_of_a_case_are_in_the_order_of_measurement():
    rows = made_up_report().rows_of("steps-1")
    assert {row.case for row in rows} == {"steps-1"}
    assert [row.implementation for row in rows][-2:] == ["TorchOpt", "jax"]
