"""result.json holds what its schema says."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from mamlcli.common.files import json_text
from mamlcli.studies.claims.calls import Call
from mamlcli.studies.claims.decisions import HOLDS, UNDECIDED
from mamlcli.studies.claims.premise import PremiseRecord
from mamlcli.studies.claims.reproduction import Reproduction
from mamlcli.studies.claims.rest import NewPlan, Rest
from mamlcli.studies.claims.result_json import claim_to_json, result_schema, study_to_json
from tests.helpers.decided import CHECK, claim, row, study_with_runs
from tests.helpers.reproductions import tiny_plan

# With one task there is no interval.
PREMISE = PremiseRecord(1, 4, 1, 15, 0.8, 0.7, 1200, 300, 0, 1, 0.1, math.nan)


@pytest.fixture
def content():
    """The content of a result.json with every part that one can have."""
    open_row = row("open", UNDECIDED)
    rows = [row("holds", HOLDS), open_row, row("few seeds", UNDECIDED, decides=False, differences=(0.1,))]
    with study_with_runs({"depth 1": [1.0]}) as study:
        done = Reproduction(
            tiny_plan(left_out=("Omniglot",)),
            (claim(UNDECIDED, rows, checks=[CHECK], missing=["a cell has no score"]),),
            (replace(study, result=replace(study.result, cells=()), premises=(PREMISE,)),),
            deviations=("left out",),
            failures=("a cell: killed",),
            look=1,
            rest={"open": Rest(9, 0.5, is_new_plan=True)},
            next_seeds=4,
            next_hours=0.1,
            new_plan=NewPlan(9, 104, 1.5, "mamlcli reproduce"),
            wall_s=3.0,
            calls=(Call("2026-01-01T00:00:00+00:00", 2.0, 2, 2),),
        )
        return json.loads(json_text(done.to_json()))


def test_a_result_is_as_the_schema_says(content):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator
    validator.check_schema(result_schema())
    validator(result_schema()).validate(content)
    wrong = json.loads(json.dumps(content))
    wrong["claims"][0]["evidence"]["predictions"][0]["verdict"] = "perhaps"
    assert not validator(result_schema()).is_valid(wrong)


def test_every_key_that_the_schema_requires_is_there(content):
    schema = result_schema()
    prediction = content["claims"][0]["evidence"]["predictions"][0]
    assert list(content) == schema["required"]
    assert set(prediction) == set(schema["$defs"]["prediction"]["required"])
    assert set(schema["$defs"]["prediction"]["properties"]) == set(prediction)
    assert set(content["premises"][0]) == set(schema["$defs"]["premise"]["required"])
    assert set(content["plan"]) == set(schema["$defs"]["plan"]["required"])


def test_a_prediction_has_interval_seeds_and_what_would_decide_it(content):
    _, open_one, few = content["claims"][0]["evidence"]["predictions"]
    assert open_one["seeds"] == [100, 101, 102, 103]
    assert open_one["mean"] == pytest.approx(0.125)
    low, high = open_one["interval"]
    assert low < open_one["mean"] < high
    assert (open_one["seeds_needed"], open_one["hours_needed"], open_one["needs_new_plan"]) == (9, 0.5, True)
    assert (few["seeds_needed"], few["needs_new_plan"]) == (None, False)
    assert open_one["level"] == pytest.approx(0.95)
    # With one seed there is no interval, and before the first look no p-value.
    assert few["interval"] == [None, None]
    assert few["p_holds"] is None
    assert few["decides"] is False


def test_the_premise_stands_with_its_verdict(content):
    [premise] = content["premises"]
    assert (premise["study"], premise["verdict"], premise["half_width"]) == ("linear-regression", "not shown", None)


def test_no_path_of_a_study_is_that_of_a_machine():
    with study_with_runs({"depth 1": [1.0]}) as study:
        found = study_to_json(study.result)
        name = Path(study.result.directory).name
    assert found["directory"] == name
    assert found["cells"][0]["run_dirs"] == [f"{name}/cells/depth-1-seed-100"]


def test_exact_checks_say_whether_they_hold():
    found = claim_to_json(claim(HOLDS, checks=[CHECK]), first_seed=100, rest={})
    assert found["evidence"]["checks"] == [{"name": "outputs agree", "value": 1e-9, "tolerance": 1e-6, "holds": True}]
