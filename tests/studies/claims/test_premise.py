"""The premise of C2: shallow and deep networks, each trained on every task alone."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.studies.claims import premise
from mamlcli.studies.claims.premise import (
    PremiseRecord,
    mean_and_half_width,
    premise_jobs,
    premise_words,
    read_premise,
)
from mamlcli.studies.sweeps.axes import depth_sweep, linear_sweep
from tests.helpers.running import TINY_IMAGES


def record(difference, half_width):
    return PremiseRecord(1, 4, 10, 15, 0.8, 0.8 - difference, 1200, 300, 0, 10, difference, half_width)


@pytest.mark.parametrize(
    ("difference", "half_width", "verdict"),
    [
        (0.10, 0.02, "met"),  # better
        (0.00, 0.005, "met"),  # equal to within a point
        (0.00, 0.02, "not met"),  # it could be worse by two points
        (-0.10, 0.02, "not met"),
        (0.10, math.nan, "not met"),  # one task shows nothing
    ],
)
def test_the_premise_is_met_where_the_interval_lies_above_minus_one_point(difference, half_width, verdict):
    assert record(difference, half_width).verdict == verdict
    assert verdict in record(difference, half_width).words


def test_the_interval_is_that_of_students_t_at_90_percent():
    values = np.array([0.1, -0.05, 0.02, 0.07])
    mean, half_width = mean_and_half_width(values)
    low, high = stats.t.interval(0.90, 3, loc=values.mean(), scale=stats.sem(values))
    assert (mean - half_width, mean + half_width) == pytest.approx((low, high))


@pytest.mark.parametrize("half_width", [0.02, math.nan])
def test_a_record_comes_back_from_its_json(half_width):
    text = json.dumps(record(0.1, half_width).to_json(), allow_nan=False)
    assert repr(PremiseRecord.from_json(json.loads(text))) == repr(record(0.1, half_width))


def image_recipe(*overrides):
    return load_recipe("glyphs-5way-1shot", [*TINY_IMAGES, "tasks.queries=5", "evaluation.tasks=2", *overrides])[1]


def test_the_job_compares_the_shallowest_with_each_deeper_one_and_is_done_once(tmp_path, with_glyphs, monkeypatch):
    monkeypatch.setattr(premise, "NUM_TASKS", 3)
    monkeypatch.setattr(premise, "MAX_STEPS", 200)
    sweep = depth_sweep("glyphs-5way-1shot", image_recipe("model.width=4"), depths=[1, 2, 3], num_seeds=2)
    assert premise_words(read_premise(tmp_path)) == ["Premise not tested"]
    [job] = premise_jobs(sweep, tmp_path)
    job.run(lambda: False)
    records = read_premise(tmp_path)
    assert [(found.shallow, found.deep, found.num_tasks) for found in records] == [(1, 2, 3), (1, 3, 3)]
    for found in records:
        assert found.difference == pytest.approx(found.accuracy_shallow - found.accuracy_deep)
        # Many examples of a task teach both more than guessing, which is 0.2.
        assert min(found.accuracy_shallow, found.accuracy_deep) > 0.25
    assert premise_jobs(sweep, tmp_path) == []
    (tmp_path / "premise.json").write_text('[{"shallow": 1}]')
    with pytest.raises(RunError, match=r"premise\.json: expected a record that can be read"):
        read_premise(tmp_path)
    assert len(premise_jobs(sweep, tmp_path)) == 1  # it is written again


def test_a_study_of_one_plain_depth_has_no_premise_to_test(tmp_path, with_glyphs):
    sweep = linear_sweep("glyphs-5way-1shot", image_recipe(), layers=[0, 1], num_seeds=1)
    assert premise_jobs(sweep, tmp_path) == []
