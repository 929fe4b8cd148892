"""The result of a study as a type: read as it was written, old ones too."""

import json

import pytest

from mamlcli.studies.sweeps.result import StudyResult
from tests.helpers.studies import depth_result, full_result, grid_result


@pytest.mark.parametrize("result", [grid_result(), depth_result(), full_result()], ids=["grid", "depth", "full"])
def test_a_result_is_read_from_json_as_it_was_written(result):
    assert StudyResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_a_result_of_an_older_study_opens_and_its_json_is_the_same_to_the_byte():
    # As `sweep-depth` has written it since the first release, a study with one seed, whose intervals are over tasks.
    score = {"mean": 0.5, "ci95_over_tasks": None}
    point = {"step": 0, "loss": score, "support_loss": {"mean": None, "ci95_over_tasks": None}}
    cell = {
        "value": 1,
        "seeds": [0],
        "run_dirs": ["runs/s/cells/depth-1-seed-0"],
        "inner_lr": 0.5,
        "loss": score,
        "curve": [point],
        "num_parameters": 3,
        "num_transform_parameters": 0,
    }
    difference = {"a": 2, "b": 1, "metric": "loss", "difference": score, "num_pairs": 12}
    protocol = {
        "split": "test",
        "num_tasks": 12,
        "ways": None,
        "shots": 10,
        "queries": 10,
        "per_class": False,
        "inner_steps": 3,
        "batch_norm": "none",
        "seed": 0,
    }
    old = {
        "study": "sweep-depth",
        "axis": "model.depth",
        "recipe": "linear-regression",
        "seeds": [0],
        "directory": "s",
        "inner_lr_is_chosen": False,
        "started_from": None,
        "cells": [cell],
        "comparisons": [difference],
        "protocol": protocol,
        "references": {"posterior mean": {"loss": score}},
        "failed": [{"cell": "depth 3, seed 0", "reason": "killed"}],
    }
    assert json.dumps(StudyResult.from_json(old).to_json()) == json.dumps(old)
