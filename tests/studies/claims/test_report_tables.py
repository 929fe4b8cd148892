"""The tables of a report."""

import json
from dataclasses import replace

import numpy as np

from mamlcli.studies.claims.decisions import HOLDS, UNDECIDED, UNTIL_DECIDED
from mamlcli.studies.claims.plan import OF_PILOTS
from mamlcli.studies.claims.predictions import ExactCheck
from mamlcli.studies.claims.report_tables import (
    cell_grid,
    check_grid,
    cost_grid,
    looks_words,
    margins_words,
    open_grid,
    plan_grid,
    prediction_grid,
    rate_grid,
    support_words,
    verdict_grid,
)
from mamlcli.studies.claims.reproduction import value_of_cell
from mamlcli.studies.claims.rest import Rest
from mamlcli.studies.sweeps.collapsed_control import ControlRecord
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
    assert prediction_grid([row]).rows[0][-1] == "as left"
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
    names = [row[0] for row in grid.rows if "collapsed" not in row[0]]
    assert [name.replace("KFO", "kfo") for name in names] == [value_of_cell(cell).key for cell in study.result.cells]
    assert "query accuracy %" in grid.header
    assert not {"capped loss", "tasks diverged %"} & set(grid.header)
    assert "query accuracy %" not in cell_grid(DONE.studies[0]).header


def test_the_control_has_a_row_below_its_stack_with_its_rates_and_scores(tmp_path):
    study = next(study for study in DONE.studies if study.key == "glyphs-maml")
    rates = (0.4, 0.8, 0.566, 0.4)
    for index, rate in enumerate(rates):
        record = ControlRecord(((rate, 1.0),), rate, 200, 1000, 1.5, 0.3, 1.5)
        (tmp_path / str(index)).mkdir()
        (tmp_path / str(index) / "control.json").write_text(json.dumps(record.to_json()))
    runs = tuple(str(tmp_path / str(index)) for index in range(4))
    cells = tuple(replace(cell, run_dirs=runs) for cell in study.result.cells)
    grid = cell_grid(replace(study, result=replace(study.result, cells=cells)))
    names = [row[0] for row in grid.rows]
    at = names.index("depth 1, 2 linear layers, collapsed before adaptation")
    assert names[at - 1] == "depth 1, 2 linear layers"
    row = dict(zip(grid.header, grid.rows[at], strict=True))
    losses = list(study.scores["loss"]["depth 1, 2 linear layers, collapsed"].values())
    assert (row["seeds"], row["inner lr"]) == ("4", "0.4 to 0.8")
    # t_3(0.975) = 3.1824
    half_width = 3.18245 * np.std(losses, ddof=1) / 2
    assert row["query loss"] == f"{np.mean(losses):.3f} ± {half_width:.3f}"


def test_capped_loss_and_diverged_tasks_have_a_column_where_there_is_something_to_say():
    study = DONE.studies[0]
    first, *others = study.result.cells
    cells = (replace(first, diverged_tasks=0.012), *others)
    key = value_of_cell(first).key
    capped = {**study.scores["capped_loss"], key: dict.fromkeys(study.result.seeds, 0.25)}
    scores = {**study.scores, "capped_loss": capped}
    grid = cell_grid(replace(study, scores=scores, result=replace(study.result, cells=cells)))
    row = dict(zip(grid.header, grid.rows[0], strict=True))
    assert row["tasks diverged %"] == "1.2"
    assert row["capped loss"] == "0.250"  # the same for every seed: no interval


def test_an_error_of_zero_is_zero():
    ((*_, error, allowed, verdict),) = check_grid(claim("holds", checks=[ExactCheck("sizes", 0.0, 0.0)])).rows
    assert (error, allowed, verdict) == ("0", "0", "holds")


def test_plan_shows_digest_looks_rates_and_margins():
    values = dict(plan_grid(DONE.plan).rows)
    assert values["digest (SHA-256)"] == DONE.plan.digest
    assert values["looks"] == "one look, at 4 seeds, with the whole one-sided error of a claim, 0.025"
    assert values["left out"] == "omniglot: its pack is not here"
    assert len(rate_grid(DONE.plan).rows) == len(DONE.plan.families)
    kept = dict(plan_grid(replace(DONE.plan, rates_from="scale")).rows)
    assert "networks of depth 4 were not refined" in kept["exceptions of these rates"]
    assert "exceptions of these rates" not in dict(plan_grid(replace(DONE.plan, rates_from=OF_PILOTS)).rows)


def test_looks_have_their_errors():
    words = looks_words(UNTIL_DECIDED)
    assert words.startswith("3 looks, at 5 seeds (0.008), 10 seeds (0.008), 20 seeds (0.009)")


def test_margins_have_names():
    parts = margins_words(DONE.plan).split("; ")
    assert parts[0] == "differences: loss 0.02, log-odds 0.1, distance 0.02"
    assert parts[1] == "differences of differences: loss 0.04, log-odds 0.1"
    excess = {family.role: family.excess for family in DONE.plan.families}
    assert parts[2] == (
        f"5 % of the shallow model's excess: linear regression {0.05 * excess['linear-regression']:#.2g}, "
        f"logistic regression {0.05 * excess['logistic']:#.2g}"
    )


def test_cost_adds_up():
    assert cost_grid({"a": 60.0, "b": 120.0}).rows[-1] == ("together", "3 min")
