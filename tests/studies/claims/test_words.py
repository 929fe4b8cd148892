"""The sentences of the report."""

from dataclasses import replace

import pytest

from mamlcli.studies.claims.decisions import FAILS, HOLDS, NO_EFFECT, UNDECIDED
from mamlcli.studies.claims.words import RULE, deviation_words, prose, reason, short_words
from tests.helpers.decided import CHECK, claim, row


def test_every_verdict_of_a_claim_is_said_as_plainly():
    claims = [claim(verdict) for verdict in (HOLDS, FAILS, NO_EFFECT, UNDECIDED)]
    claims = [replace(of, id=f"C{index}") for index, of in enumerate(claims, 1)]
    assert short_words(claims) == (
        "These claims hold: C1. These claims fail: C2. These claims have no relevant effect: C3. "
        "These claims are undecided: C4."
    )
    assert short_words(claims[:1]) == "These claims hold: C1."


@pytest.mark.parametrize(
    ("verdict", "of_rows", "words"),
    [
        (HOLDS, (HOLDS,), "Why: its one deciding prediction holds."),
        (HOLDS, (HOLDS, HOLDS), "Why: each of its 2 deciding predictions holds."),
        (
            UNDECIDED,
            (NO_EFFECT, UNDECIDED),
            "Why: of 2 deciding predictions, none holds; 1 has no relevant effect by itself, but not after Holm's "
            "correction; 1 is undecided, as its interval allows several verdicts.",
        ),
        (
            UNDECIDED,
            (HOLDS, FAILS, FAILS),
            "Why: of 3 deciding predictions, 1 holds; 2 are on the other side of zero by themselves, but not after "
            "Holm's correction.",
        ),
        (
            FAILS,
            (HOLDS, FAILS),
            "Why: of 2 deciding predictions, 1 is on the other side of zero, also after Holm's correction: "
            "glyphs, MAML: 1, on query loss.",
        ),
        (
            NO_EFFECT,
            (NO_EFFECT, NO_EFFECT),
            "Why: of 2 deciding predictions, 2 have no relevant effect, at least one of them also after Holm's "
            "correction: glyphs, MAML: 0, on query loss; glyphs, MAML: 1, on query loss.",
        ),
    ],
)
def test_the_reason_says_why(verdict, of_rows, words):
    rows = [row(str(index), of_row) for index, of_row in enumerate(of_rows)]
    assert reason(claim(verdict, rows)) == words


def test_exact_checks_take_part_in_the_reason():
    broken = replace(CHECK, value=1.0)
    assert reason(claim(FAILS, [row("a", HOLDS)], checks=[broken])) == "Why: 1 exact check fails: outputs agree."
    words = reason(claim(HOLDS, [row("a", HOLDS)], checks=[CHECK]))
    assert words == "Why: its one deciding prediction holds, and so does every exact check."


def test_predictions_without_data_take_part_in_the_reason():
    words = reason(claim(UNDECIDED, [row("a", HOLDS)], missing=["x", "y"]))
    assert words == "Why: of 1 deciding prediction, 1 holds; 2 further are without data."
    assert reason(claim(UNDECIDED, missing=["x"])) == "Why: no deciding prediction has data."


def test_deviations_are_counted_and_the_first_is_named():
    assert deviation_words(()) == "Deviations from the plan: none."
    assert deviation_words(("a",)) == "Deviations from the plan: 1: a."
    assert deviation_words(("a", "b")) == "Deviations from the plan: 2, the first: a."


def test_kfo_is_written_in_capitals_but_for_the_name_of_another_transform():
    assert prose("depth 1, kfo better than depth 1, kfo-mlp") == "depth 1, KFO better than depth 1, kfo-mlp"


def test_the_rule_says_whose_error_it_is():
    assert "2.5 % is for each claim, not for all seven together" in RULE
