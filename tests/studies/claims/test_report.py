"""The report: what it says of each claim."""

from dataclasses import replace

from mamlcli.studies.claims.claims import disagreements
from mamlcli.studies.claims.markup import Picture, to_html
from mamlcli.studies.claims.report import OVER, Appendix, reason, report_markdown, short_words
from tests.helpers.made_reproduction import made_reproduction

DONE = made_reproduction()
FOREST = Picture("forest.png", b"f", "forest")
APPENDIX = Appendix(
    "mamlcli reproduce --dir x --report",
    settings={"torch": "2.6"},
    recipes={"glyphs": "seed: 0"},
    seconds={"glyphs": 60.0},
    beside={"C3": ("pooled over studies: 0.4",)},
)
PICTURES = {"C2": [Picture("c2.png", b"c", "scores over depth")]}


def markdown(done=DONE):
    return report_markdown(done, FOREST, PICTURES, APPENDIX)


def test_every_claim_and_prediction_stands_in_both_forms():
    text = markdown()
    page = to_html(text, "t", [FOREST, *PICTURES["C2"]])
    for claim in DONE.claims:
        assert f"### {claim.id}: {claim.verdict}" in text
        assert f"<h3>{claim.id}: {claim.verdict}</h3>" in page
        for row in claim.rows:
            assert f"{row.decision.interval.mean:+.4f}" in text
            assert row.contrast.words in page


def test_user_text_is_escaped_in_the_page():
    assert "a pack is &lt;missing&gt;" in to_html(markdown(), "t", [FOREST, *PICTURES["C2"]])


def test_report_says_what_intervals_are_over_and_how_it_is_made_again():
    assert OVER in markdown()
    assert "trainings and tasks, not classes" in OVER
    assert markdown().count("`mamlcli reproduce --dir x --report`") == 2


def test_what_stands_beside_a_claim_is_apart_from_it():
    c3 = markdown().split("### C3")[1].split("### C4")[0]
    assert "Beside the claim, deciding nothing of it:\n\npooled over studies: 0.4" in c3
    assert "Premise, that a shallow network does for these tasks: not tested." in markdown()


def test_claims_that_fail_are_said_as_plainly_as_those_that_hold():
    claims = [replace(DONE.claims[0], verdict="fails"), replace(DONE.claims[1], verdict="no relevant effect")]
    assert short_words([*claims, DONE.claims[2]]) == "Holding: C3. Failing: C1. Without a relevant effect: C2."
    row = replace(DONE.claims[0].rows[0], decision=replace(DONE.claims[0].rows[0].decision, verdict="fails"))
    words = reason(replace(claims[0], rows=(row,)))
    assert words == f"Why: on the other side of zero: {row.decision.prediction.name}."


def test_undecided_claims_say_what_is_open():
    claim = DONE.claims[1]
    rows = (replace(claim.rows[0], decision=replace(claim.rows[0].decision, verdict="undecided")), *claim.rows[1:])
    words = reason(replace(claim, verdict="undecided", rows=rows, missing=("x",)))
    assert "of 4 deciding predictions 3 hold; 1 with an interval that allows more than one verdict" in words
    assert "1 could not be looked at" in words


def test_disagreement_of_loss_and_log_odds_is_shown():
    claim = DONE.claims[1]
    rows = (replace(claim.rows[0], decision=replace(claim.rows[0].decision, verdict="undecided")), *claim.rows[1:])
    (note,) = disagreements(rows)
    done = replace(DONE, claims=(replace(claim, rows=rows, notes=(note,)),))
    assert "undecided on query loss" in markdown(done)
