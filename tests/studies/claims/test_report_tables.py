"""The tables of a report."""

from dataclasses import replace

from mamlcli.studies.claims.decisions import HOLDS, UNDECIDED
from mamlcli.studies.claims.report_tables import (
    cell_grid,
    cost_grid,
    open_grid,
    plan_grid,
    prediction_grid,
    rate_grid,
    support_words,
    verdict_grid,
)
from mamlcli.studies.claims.rest import Rest
from tests.helpers.decided import CHECK, claim, row
from tests.helpers.made_reproduction import made_reproduction

DONE = made_reproduction()


def test_every_claim_has_a_row_with_its_verdict():
    assert [row[:2] for row in verdict_grid(DONE.claims).rows] == [(claim.id, claim.verdict) for claim in DONE.claims]


def test_what_a_claim_rests_on_in_words():
    rows = [row("a", HOLDS), row("b", UNDECIDED), row("beside", UNDECIDED, decides=False)]
    assert support_words(claim(UNDECIDED, rows, checks=[CHECK], missing=["x"])) == (
        "holds: 1, undecided: 1, 1 of 1 exact checks hold, 1 without data"
    )


def test_every_prediction_has_a_row_with_verdict_interval_and_margin():
    for found in DONE.claims:
        rows = prediction_grid(found.rows).rows
        assert len(rows) == len(found.rows)
        first, cells = found.rows[0], rows[0]
        interval = first.decision.interval
        assert cells[0] == first.study_words
        assert cells[3] == first.decision.verdict
        assert f"{interval.mean:+.4f} [{interval.low:+.4f}" in cells[4]
        assert cells[5] == "95\u00a0%"


def test_interval_of_all_seeds_stands_beside_the_deciding_one():
    row = DONE.claims[0].rows[0]
    more = replace(row.decision.of_all_seeds, mean=0.5, num_seeds=9)
    changed = replace(row, decision=replace(row.decision, of_all_seeds=more))
    assert prediction_grid([row]).rows[0][-1] == "the same (4)"
    assert prediction_grid([changed]).rows[0][-1].startswith("+0.5000 [")
    assert prediction_grid([changed]).rows[0][-1].endswith("(9)")


def test_open_predictions_say_what_would_decide_them():
    claim = replace(DONE.claims[1], verdict="undecided")
    row = replace(claim.rows[0], decision=replace(claim.rows[0].decision, verdict="undecided"))
    done = replace(DONE, claims=(replace(claim, rows=(row,)),), rest={row.contrast.key: Rest(12, 2.5)})
    ((*_, words),) = open_grid(done).rows
    assert words == "12 seeds, 2.5 h"


def test_cells_show_rate_scores_and_sizes():
    study = next(study for study in DONE.studies if study.key == "glyphs-maml")
    grid = cell_grid(study)
    assert [row[0] for row in grid.rows] == list(study.scores["loss"])[: len(grid.rows)]
    assert "query accuracy %" in grid.header
    assert "query accuracy %" not in cell_grid(DONE.studies[0]).header


def test_plan_shows_digest_looks_rates_and_margins():
    values = dict(plan_grid(DONE.plan).rows)
    assert values["digest (SHA-256)"] == DONE.plan.digest
    assert values["looks"].startswith("4 seeds (error 0.025)")
    assert values["left out"] == "omniglot: its pack is not here"
    assert "log-odds 0.1" in values["margins"]
    assert len(rate_grid(DONE.plan).rows) == len(DONE.plan.families)


def test_cost_adds_up():
    assert cost_grid({"a": 60.0, "b": 120.0}).rows[-1] == ("together", "3 min")
