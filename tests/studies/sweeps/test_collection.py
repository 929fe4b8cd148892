"""From finished runs to numbers: means, intervals, paired differences, references, the table."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from mamlcli.common.names import LINEAR_PROBE
from mamlcli.common.processes.pool import LocalExecutor
from mamlcli.common.statistics import Score
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import Scores
from mamlcli.studies.sweeps.collection import collect, mean_references, references_of, result_csv
from mamlcli.studies.sweeps.finished import FinishedCell
from mamlcli.studies.sweeps.run import run_sweep
from mamlcli.studies.sweeps.scores import StudyScores
from tests.helpers.reports import curve_report
from tests.helpers.studies import collected, payloads


def test_every_axis_value_has_the_same_seeds_and_the_same_meta_test_tasks(study):
    sweep, path = study
    result = collected(sweep, path)
    assert [cell.seeds for cell in result.cells] == [(0, 1), (0, 1)]
    # The posterior mean depends on the tasks' support and query points alone.
    reports = [json.loads((path / "cells" / name / "evaluation.json").read_text()) for name in payloads(sweep, path)]
    references = [report["references"]["posterior mean"] for report in reports]
    assert len(references) == 4
    assert references[0] == references[1] != references[2] == references[3]  # two values of each of two seeds


def test_means_and_intervals_over_seeds_match_a_hand_computation(study):
    sweep, path = study
    result = collected(sweep, path)
    for cell in result.cells:
        runs = [path / "cells" / f"depth-{cell.value}-seed-{seed}" for seed in (0, 1)]
        for step, point in enumerate(cell.curve):
            # Column 2 of tasks.csv is the query loss; a seed's number is its mean over tasks.
            a, b = (RunDirectory(run).read_scores()[:, step, 2].mean() for run in runs)
            assert point.scores.mean("loss") == pytest.approx((a + b) / 2, rel=1e-7)
            # Two values: s / sqrt(2) = |a - b| / 2, and t_{0.975, 1} = 12.7062 (any table).
            assert point.scores.half_width("loss") == pytest.approx(12.7062 * abs(a - b) / 2, rel=1e-4)
        assert cell.final == cell.curve[-1].scores


def test_comparisons_are_paired_by_seed(study):
    sweep, path = study
    [comparison] = collected(sweep, path).comparisons
    final = {
        (depth, seed): json.loads((path / "cells" / f"depth-{depth}-seed-{seed}" / "evaluation.json").read_text())[
            "final"
        ]["loss"]["mean"]
        for depth in (1, 2)
        for seed in (0, 1)
    }
    a, b = (final[2, seed] - final[1, seed] for seed in (0, 1))
    assert (comparison.a, comparison.b, comparison.metric) == (2, 1, "loss")
    assert comparison.difference.mean == pytest.approx((a + b) / 2)
    assert comparison.difference.ci95 == pytest.approx(12.7062 * abs(a - b) / 2, rel=1e-5)


def test_with_one_seed_intervals_and_pairs_are_over_tasks_and_say_so(study):
    sweep, path = study
    one = replace(sweep, num_seeds=1)
    result = run_sweep(one, path, executor=LocalExecutor(1), argv=[])
    scores = [RunDirectory(path / "cells" / f"depth-{depth}-seed-0").read_scores()[:, -1, 2] for depth in (2, 1)]
    differences = scores[0] - scores[1]
    # 12 tasks: t_{0.975, 11} = 2.200985.
    expected = 2.200985 * differences.std(ddof=1) / np.sqrt(12)
    [comparison] = result.comparisons
    assert comparison.difference.mean == pytest.approx(differences.mean())
    assert comparison.difference.ci95 == pytest.approx(expected, rel=1e-5)
    assert comparison.over == result.cells[0].final.over == "tasks"
    assert set(result.to_json()["cells"][0]["loss"]) == {"mean", "ci95_over_tasks"}


def test_csv_has_one_line_for_each_value_with_the_same_numbers(study):
    sweep, path = study
    result = collected(sweep, path)
    rows = list(csv.DictReader(result_csv(result).splitlines()))
    assert [row["value"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss_mean"]) == result.cells[1].final.mean("loss")
    assert float(rows[1]["loss_ci95_over_seeds"]) == result.cells[1].final.half_width("loss")


def test_references_that_differ_between_seeds_have_one_value_of_each_seed():
    references = [{"floor": StudyScores({"loss": Score(mean, 0.1)}, "tasks")} for mean in (1.0, 3.0)]
    # Two values: s / sqrt(2) = 1, times t_{0.975, 1} = 12.7062.
    floor = mean_references(references)["floor"]
    assert floor.over == "seeds"
    assert (floor.mean("loss"), floor.half_width("loss")) == (2.0, pytest.approx(12.7062, rel=1e-5))
    assert mean_references(references[:1]) == references[0]


def test_linear_probe_of_a_run_is_no_reference_of_a_study():
    # It depends on the run's weights, so axis values have each their own.
    probe = Scores(accuracy=Score(0.9, 0.1))
    report = curve_report((1.6, 0.5))
    report = replace(report, references={**report.references, LINEAR_PROBE: probe})
    assert list(references_of(report)) == ["nearest neighbour on pixels"]


def test_references_count_every_seed_once_whatever_the_axis_values(study):
    sweep, path = study
    cells = [{seed: RunDirectory(path / "cells" / f"depth-{d}-seed-{seed}") for seed in (0, 1)} for d in (1, 2)]
    found = collect([FinishedCell(i, 0.5, runs) for i, runs in enumerate(cells)], sweep.pairs, num_seeds=2)
    of_each_seed = [references_of(run.read_report()) for run in cells[0].values()]
    assert found.references == mean_references(of_each_seed)
