"""Finished runs side by side; differences against numpy and scipy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from mamlcli.common.errors import RunError
from mamlcli.runs.comparison import compare_runs, recipe_differences
from mamlcli.runs.entry import read_run
from tests.helpers.run_folders import query_scores, with_manifest


def test_paired_differences_are_those_of_scipy(runs):
    compared = compare_runs([read_run(runs / "one"), read_run(runs / "two")])
    result = compared.to_json()
    one, two = query_scores(runs / "one"), query_scores(runs / "two")
    for comparison, column in zip(result["comparisons"], (0, 1), strict=True):
        test = stats.ttest_rel(two[:, column], one[:, column])
        low, high = test.confidence_interval(0.95)
        assert comparison["metric"] == ("loss", "accuracy")[column]
        assert (comparison["is_paired"], comparison["num_pairs"]) == (True, 3)
        assert comparison["difference"]["mean"] == pytest.approx((two - one)[:, column].mean(), rel=1e-12)
        assert comparison["difference"]["ci95_over_tasks"] == pytest.approx((high - low) / 2, rel=1e-9)
    assert result["recipe_differences"].keys() >= {"model.depth", "seed"}
    assert result["recipe_differences"]["model.depth"] == {str(runs / "one"): 1, str(runs / "two"): 2}


def test_runs_of_more_and_fewer_tasks_are_paired_on_those_they_share(runs):
    compared = compare_runs([read_run(runs / "one"), read_run(runs / "five")])
    result = compared.to_json()
    expected = query_scores(runs / "five")[:3] - query_scores(runs / "one")
    assert [c["num_pairs"] for c in result["comparisons"]] == [3, 3]
    assert result["comparisons"][0]["difference"]["mean"] == pytest.approx(expected[:, 0].mean(), rel=1e-12)
    # The two trained alike: their shared tasks are the same ones, and so are the scores, but for rounding.
    assert np.allclose(expected, 0.0, atol=1e-6)


def test_several_runs_are_compared_with_the_baseline_each(trained):
    entries = [read_run(trained / name) for name in ("one", "two", "five")]
    result = compare_runs(entries, baseline=1).to_json()
    assert result["baseline"] == str(trained / "two")
    assert {(c["a"], c["b"]) for c in result["comparisons"]} == {
        (str(trained / name), str(trained / "two")) for name in ("one", "five")
    }


@pytest.mark.parametrize(
    ("other", "key"), [("more-shots", "tasks.shots (6 and 4)"), ("other-tasks", "evaluation.seed (1 and 0)")]
)
def test_runs_on_other_tasks_are_compared_unpaired_where_that_is_allowed(runs, other, key):
    entries = [read_run(runs / "one"), read_run(runs / other)]
    result = compare_runs(entries, allow_unpaired=True).to_json()
    one, two = query_scores(runs / "one"), query_scores(runs / other)
    low, high = stats.ttest_ind(two[:, 0], one[:, 0], equal_var=False).confidence_interval(0.95)
    comparison = result["comparisons"][0]
    assert (comparison["is_paired"], comparison["num_pairs"]) == (False, None)
    assert comparison["difference"]["mean"] == pytest.approx(two[:, 0].mean() - one[:, 0].mean(), rel=1e-9)
    assert comparison["difference"]["ci95_over_tasks"] == pytest.approx((high - low) / 2, rel=1e-9)
    assert key in result["not_paired"][0]["reasons"]


def test_a_score_that_overflowed_leaves_no_difference(overflowed):
    comparison = compare_runs([read_run(run) for run in overflowed]).to_json()["comparisons"][0]
    assert comparison["difference"] == {"mean": None, "ci95_over_tasks": None}
    assert comparison["num_overflowed"] == 1


def test_one_run_or_the_same_twice_is_refused(runs):
    with pytest.raises(RunError, match="expected two or more runs, got 1"):
        compare_runs([read_run(runs / "one")])
    with pytest.raises(RunError, match="the same one twice"):
        compare_runs([read_run(runs / "one"), read_run(runs / "two" / ".." / "one")])


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("damaged", "expected a run that can be read, got a damaged one"),
        ("running", r"got one at work, at iteration 2\. Wait for it to end"),
        ("interrupted", r"got one that is interrupted\. Run: mamlcli train --resume"),
    ],
)
def test_a_run_that_is_not_finished_is_refused_with_what_to_do(trained, status, message):
    run = dataclasses.replace(read_run(trained / "one"), status=status)
    with pytest.raises(RunError, match=message):
        compare_runs([read_run(trained / "two"), run])


def test_keys_that_differ_have_the_value_of_each_run(trained):
    entries = [read_run(trained / name) for name in ("one", "two", "five")]
    differences = recipe_differences(entries, entries[0])
    one, two, five = (str(trained / name) for name in ("one", "two", "five"))
    assert differences["model.depth"] == {one: 1, two: 2, five: 1}
    assert differences["evaluation.tasks"] == {one: 3, two: 3, five: 5}
    assert "recipe" not in differences
    renamed = with_manifest(entries[1], recipe_name="mine")
    assert recipe_differences([entries[0], renamed], entries[0])["recipe"] == {one: "logistic", two: "mine"}


def test_versions_and_data_that_differ_are_told(trained):
    one, two = read_run(trained / "one"), with_manifest(read_run(trained / "two"), versions={"torch": "0"}, parts=[])
    differences = compare_runs([one, two]).other_differences
    assert differences.keys() == {"versions.mamlcli", "versions.torch"}
    assert differences["versions.torch"][two.folder] == "0"
