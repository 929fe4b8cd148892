"""The report: what it says of each claim."""

from dataclasses import replace

from mamlcli.studies.claims.claims import disagreements
from mamlcli.studies.claims.decisions import UNDECIDED
from mamlcli.studies.claims.markup import Picture, to_html
from mamlcli.studies.claims.report import Appendix, report_markdown
from mamlcli.studies.claims.words import COLUMNS, OVER, prose
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
            assert prose(row.contrast.words) in page


def test_user_text_is_escaped_in_the_page():
    assert "a pack is &lt;missing&gt;" in to_html(markdown(), "t", [FOREST, *PICTURES["C2"]])


def test_report_says_what_intervals_are_over_and_how_it_is_made_again():
    assert OVER in markdown()
    assert "trainings and tasks, not classes" in OVER
    # Below the forest plot, below the one figure, and at the end.
    assert markdown().count("`mamlcli reproduce --dir x --report`") == 3


def test_deviations_stand_before_the_verdicts_and_columns_before_the_first_table_of_predictions():
    text = markdown()
    assert text.index("Deviations from the plan: 1: a pack is") < text.index("| claim | verdict |")
    assert text.index(COLUMNS[:40]) < text.index("mean / sd |")
    assert "Deviations from the plan: none." in markdown(replace(DONE, deviations=()))


def test_what_stands_beside_a_claim_is_apart_from_it():
    c3 = markdown().split("### C3")[1].split("### C4")[0]
    assert "Beside the claim, deciding nothing of it:\n\npooled over studies: 0.4" in c3
    assert "Premise, that a shallow network does for these tasks: not tested." in markdown()


def test_disagreement_of_loss_and_log_odds_is_shown():
    claim = DONE.claims[1]
    rows = (replace(claim.rows[0], decision=replace(claim.rows[0].decision, verdict=UNDECIDED)), *claim.rows[1:])
    (note,) = disagreements(rows)
    done = replace(DONE, claims=(replace(claim, rows=rows, notes=(note,)),))
    assert "undecided on query loss" in markdown(done)
    aside = replace(claim, rows=rows, beside_notes=(note,))
    above, below = markdown(replace(DONE, claims=(aside,))).split("Beside the claim")
    assert "undecided on query loss" not in above
    assert "undecided on query loss" in below
