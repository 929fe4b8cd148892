"""claims.csv parses back to the numbers of the decisions."""

import csv
import io
import math

from mamlcli.studies.claims.claims_csv import COLUMNS, claims_csv
from tests.helpers.made_reproduction import made_reproduction


def test_every_prediction_has_a_line_with_its_numbers():
    done = made_reproduction()
    lines = list(csv.DictReader(io.StringIO(claims_csv(done))))
    rows = [(claim, row) for claim in done.claims for row in claim.rows]
    assert len(lines) == len(rows)
    assert tuple(lines[0]) == COLUMNS
    for line, (claim, row) in zip(lines, rows, strict=True):
        decision = row.decision
        assert (line["claim"], line["claim_verdict"], line["verdict"]) == (claim.id, claim.verdict, decision.verdict)
        numbers = (decision.interval.mean, decision.interval.low, decision.interval.high, row.contrast.margin)
        assert tuple(float(line[key]) for key in ("mean", "low", "high", "margin")) == numbers
        assert float(line["p_holds"]) == decision.p_holds
        assert float(line["all_seeds_low"]) == decision.of_all_seeds.low
        assert line["decides"] == ("yes" if row.contrast.decides else "no")


def test_raw_differences_stand_with_their_seeds():
    done = made_reproduction(num_seeds=3)
    line = next(csv.DictReader(io.StringIO(claims_csv(done))))
    row = done.claims[0].rows[0]
    assert [int(seed) for seed in line["seeds"].split()] == [100, 101, 102]
    differences = [float(number) for number in line["differences"].split()]
    assert differences == row.decision.prediction.differences.tolist()
    assert math.isclose(sum(differences) / 3, float(line["mean"]))
