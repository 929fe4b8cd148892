"""A verification as a table and a sentence."""

from __future__ import annotations

import dataclasses

import pytest

from mamlcli.common.statistics import equivalence
from mamlcli.recipe.reference_schema import Reference
from mamlcli.runs.report import Protocol
from mamlcli.runs.verification import Verification, VerifiedRun
from mamlcli.runs.verification_tables import verification_parts
from tests.helpers.reports import PROTOCOL
from tests.helpers.run_folders import shown

REFERENCE = Reference(metric="accuracy", value=98.7, margin=0.4, source="[bold]a paper[/bold], table 1")


def verification(num_seeds=2, value=98.9, **reference):
    reference = REFERENCE.model_copy(update=reference)
    runs = tuple(VerifiedRun(f"runs/seed-{seed}", seed, "last", value) for seed in range(num_seeds))
    values = [[value - 0.1, value + 0.1]] * num_seeds
    is_higher_better = reference.metric == "accuracy"
    result = equivalence(values, reference.value, margin=reference.margin, is_higher_better=is_higher_better)
    return Verification("mine", reference, Protocol.from_json(PROTOCOL), runs, result)


def text_of(done):
    return " ".join(shown(verification_parts(done), width=100).split())


def test_table_states_reference_margin_protocol_seeds_and_interval():
    text = text_of(verification())
    for words in (
        "query accuracy after 3 inner steps",
        "5-way 1-shot, 5 queries per class; batch norm: batch statistics (transductive)",
        "600 test tasks, evaluation.seed 0",
        "reference 98.7 % [bold]a paper[/bold], table 1",
        "margin ± 0.4 %",
        "seed 1 98.90 % runs/seed-1, weights: last",
        "mean 98.90 % of 2 seeds",
        "gain +0.20 %",
        "over 2 seeds and 600 tasks, the same for every seed",
        "two one-sided t tests at 5 % each",
    ):
        assert words in text


def test_scores_that_are_all_the_same_have_no_interval_and_a_word_says_why():
    done = verification()
    same = equivalence([[98.9] * 4] * 2, 98.7, margin=0.4, is_higher_better=True)
    done = dataclasses.replace(done, result=same)
    text = text_of(done)
    assert "90 % interval none" in text
    assert "Verdict: undecided: all tasks score the same, so there is no interval" in text
    assert done.to_json()["interval90"] is None


def test_one_seed_is_called_one_seed_and_has_no_mean():
    text = text_of(verification(num_seeds=1))
    assert "over 600 tasks, one seed: other trainings are not in it" in text
    assert "of 1 seeds" not in text


def test_error_is_called_mean_squared_error_and_less_is_a_gain():
    text = text_of(verification(value=0.3, metric="squared-error"))
    assert "mean squared error (twice the loss) after" in text
    assert "reference minus mean: a smaller error is a gain" in text
    assert "gain +98.4000 " in text


@pytest.mark.parametrize("verdict", ["equivalent", "better", "worse", "undecided"])
def test_verdict_is_said_in_a_sentence(verdict):
    done = verification()
    done = dataclasses.replace(done, result=dataclasses.replace(done.result, verdict=verdict))
    begin = "equal within the margin" if verdict == "equivalent" else verdict
    assert f"Verdict: {begin}" in text_of(done)
