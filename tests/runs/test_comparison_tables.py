"""A comparison as tables and sentences."""

from __future__ import annotations

import dataclasses
import shutil

from mamlcli.runs.comparison import compare_runs
from mamlcli.runs.comparison_tables import comparison_parts, letters
from mamlcli.runs.entry import read_run
from tests.helpers.run_folders import shown


def compared(base, *names, **options):
    return comparison_parts(compare_runs([read_run(base / name) for name in names], **options))


def test_tables_name_the_baseline_and_what_was_paired(trained):
    text = shown(compared(trained, "one", "five"))
    assert "minus A: paired on the same 3 tasks" in text
    assert "not adjusted" not in text


def test_comparisons_with_several_runs_are_said_not_to_be_adjusted(trained):
    text = shown(compared(trained, "one", "two", "five", baseline=1))
    assert "minus B" in text
    assert "not adjusted for 2" in text


def test_values_of_keys_stand_with_the_letters_of_their_runs(trained):
    assert "1 (A C), 2 (B)" in shown(compared(trained, "one", "two", "five"))


def test_runs_on_other_tasks_are_called_unpaired_with_the_reason(trained):
    text = " ".join(shown(compared(trained, "one", "more-shots", allow_unpaired=True)).split())
    assert "B and A are compared unpaired, as independent samples of tasks" in text
    assert "they differ in tasks.shots (6 and 4)" in text


def test_scores_that_overflowed_are_told(overflowed):
    text = " ".join(shown(comparison_parts(compare_runs([read_run(run) for run in overflowed]))).split())
    assert "B and A: loss is not finite on 1 tasks, and has no difference." in text


def test_runs_of_one_recipe_are_said_to_be_so(runs):
    shutil.copytree(runs / "one", runs / "again")
    assert "The recipes are the same." in shown(compared(runs, "one", "again"))


def test_a_difference_that_is_the_same_on_all_tasks_has_no_interval_and_a_word_says_why(runs):
    shutil.copytree(runs / "one", runs / "again")
    result = compare_runs([read_run(runs / name) for name in ("one", "again")])
    text = " ".join(shown(comparison_parts(result)).split())
    assert "B minus A: the difference in loss has no interval: it is the same on all 3 tasks." in text
    assert "0.000 ±" not in text
    row = result.to_json()["comparisons"][0]
    assert row["difference"] == {"mean": 0.0, "ci95_over_tasks": None}
    assert row["why_no_interval"] == "it is the same on all 3 tasks"


def test_a_comparison_fits_80_columns(runs):
    shutil.copytree(runs / "two", runs / ("a-very-long-name" * 6))
    text = shown(compared(runs, "one", "five", "a-very-long-name" * 6))
    assert max(len(line) for line in text.splitlines()) <= 80


def test_letters_go_on_after_z():
    assert [letters(n) for n in (0, 25, 26, 51, 52, 702)] == ["A", "Z", "AA", "AZ", "BA", "AAA"]


def with_protocol(run, **changes):
    protocol = dataclasses.replace(run.report.protocol, **changes)
    return dataclasses.replace(run, report=dataclasses.replace(run.report, protocol=protocol))


def words_of(*runs):
    return " ".join(shown(comparison_parts(compare_runs(runs))).split())


def test_title_says_the_protocol_once_or_with_the_letters_of_the_runs(trained):
    one, two, five = (read_run(trained / name) for name in ("one", "two", "five"))
    protocol = "4 support and 3 query points; 5 inner steps; 3 test tasks of evaluation seed 0; batch norm: none"
    assert words_of(one, two).startswith(protocol)
    text = words_of(one, two, five)
    assert f"A B: {protocol}" in text
    assert f"C: {protocol.replace('3 test', '5 test')}" in text


def test_other_statistics_of_batch_norm_are_paired_with_a_note(trained):
    runs = (read_run(trained / name) for name in ("one", "two"))
    statistics = ("joint", "support")
    text = words_of(
        *(
            with_protocol(run, batch_norm="batch", batch_norm_statistics=name)
            for run, name in zip(runs, statistics, strict=True)
        )
    )
    assert "paired on the same 3 tasks" in text
    assert "The runs differ in evaluation.batch_norm: joint (A), support (B)." in text
