"""The premise of C2: shallow and deep networks, each trained on every task alone."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.studies.claims.plan import Amounts
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
        (0.00, 0.02, "not shown"),  # it could be worse by two points, or as good
        (-0.02, 0.011, "not shown"),
        (-0.10, 0.02, "not met"),
        (-0.02, 0.009, "not met"),
        (0.10, math.nan, "not shown"),  # one task shows nothing
    ],
)
def test_the_verdict_is_that_of_the_whole_interval_beside_minus_one_point(difference, half_width, verdict):
    assert record(difference, half_width).verdict == verdict
    assert record(difference, half_width).words.startswith(f"Premise {verdict}")


def test_words_name_tasks_accuracies_and_the_interval():
    words = replace(record(0.096, 0.035), accuracy_shallow=0.824, accuracy_deep=0.728).words
    assert words == (
        "Premise met: trained on each of 10 tasks alone, with 15 images a class, depth 1 reaches 82.4 % and depth 4 "
        "72.8 %. Depth 1 minus depth 4: +9.6 points (90 % interval +6.1 to +13.1); met where the whole interval is "
        "above -1, not met where it is below"
    )
    assert "not shown, the interval allows both: trained" in record(0.0, 0.02).words
    assert "no interval from one task" in record(0.1, math.nan).words


def test_the_interval_is_that_of_students_t_at_90_percent():
    values = np.array([0.1, -0.05, 0.02, 0.07])
    mean, half_width = mean_and_half_width(values)
    low, high = stats.t.interval(0.90, 3, loc=values.mean(), scale=stats.sem(values))
    assert (mean - half_width, mean + half_width) == pytest.approx((low, high))


@pytest.mark.parametrize("half_width", [0.02, math.nan])
def test_a_record_comes_back_from_its_json(half_width):
    text = json.dumps(record(0.1, half_width).to_json(), allow_nan=False)
    assert repr(PremiseRecord.from_json(json.loads(text))) == repr(record(0.1, half_width))
    earlier = {key: value for key, value in json.loads(text).items() if key != "wall_s"}
    assert PremiseRecord.from_json(earlier).wall_s == 0.0


def image_recipe(*overrides):
    return load_recipe("glyphs-5way-1shot", [*TINY_IMAGES, "tasks.queries=5", "evaluation.tasks=2", *overrides])[1]


def test_the_job_compares_the_shallowest_with_each_deeper_one_and_is_done_once(tmp_path, with_glyphs):
    amounts = Amounts(premise_tasks=3, premise_steps=200)
    sweep = depth_sweep("glyphs-5way-1shot", image_recipe("model.width=4"), depths=[1, 2, 3], num_seeds=2)
    assert premise_words(read_premise(tmp_path)) == ["Premise not tested"]
    [job] = premise_jobs(sweep, tmp_path, amounts)
    job.run(lambda: False)
    records = read_premise(tmp_path)
    assert [(found.shallow, found.deep, found.num_tasks) for found in records] == [(1, 2, 3), (1, 3, 3)]
    assert all(found.wall_s > 0 for found in records)
    for found in records:
        assert found.difference == pytest.approx(found.accuracy_shallow - found.accuracy_deep)
        # Many examples of a task teach both more than guessing, which is 0.2.
        assert min(found.accuracy_shallow, found.accuracy_deep) > 0.25
    assert premise_jobs(sweep, tmp_path, amounts) == []
    (tmp_path / "premise.json").write_text('[{"shallow": 1}]')
    with pytest.raises(RunError, match=r"premise\.json: expected a record that can be read"):
        read_premise(tmp_path)
    assert len(premise_jobs(sweep, tmp_path, amounts)) == 1  # it is written again


def test_a_study_of_one_plain_depth_has_no_premise_to_test(tmp_path, with_glyphs):
    sweep = linear_sweep("glyphs-5way-1shot", image_recipe(), layers=[0, 1], num_seeds=1)
    assert premise_jobs(sweep, tmp_path, Amounts()) == []
