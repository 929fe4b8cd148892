"""Studies and the reproduction, called from Python."""

import json
import subprocess
import sys

import pytest

from mamlcli.common.errors import Interrupted, MamlError
from mamlcli.common.files import json_text
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.plan import PLAN_FILE, read_plan
from mamlcli.studies.claims.result_json import result_schema
from mamlcli.studies.claims.scales import SCALES
from mamlcli.studies.start import reproduce, run_study
from mamlcli.studies.sweeps.result import StudyResult
from tests.helpers.reproductions import LINREG, Pool, tiny_scale
from tests.helpers.studies import run_here, tiny_sweep


def test_a_study_run_from_python_returns_the_result_that_it_writes(tmp_path):
    sweep, folder = tiny_sweep(num_seeds=1), tmp_path / "study"
    run_here(sweep, folder)  # the pool has its own tests
    begun, ended = [], []
    result = run_study(
        sweep, folder, jobs=1, with_capacity=False, on_begin=lambda *about: begun.append(about), on_end=ended.append
    )
    assert begun == [(folder, 1, True)]
    assert [end.status for end in ended] == ["skipped", "skipped"]
    assert [cell.value for cell in result.cells] == [1, 2]
    assert StudyResult.from_json(json.loads((folder / "result.json").read_text())) == result


def test_a_scale_that_is_not_one_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(MamlError, match="Did you mean 'laptop'"):
        reproduce("labtop", folder=tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.fixture
def in_this_process(monkeypatch, one_thread):
    """The tiny scale, and a pool that runs jobs in this process."""
    monkeypatch.setitem(SCALES, "tiny", lambda: tiny_scale(families=(LINREG,)))
    pool = Pool()
    for module in ("sweeps.run", "claims.pilots"):
        monkeypatch.setattr(f"mamlcli.studies.{module}.run_jobs", pool)
    return pool


def test_a_reproduction_registers_its_plan_before_the_first_run_and_never_again(tmp_path, in_this_process):
    folder, seen = tmp_path / "r", []
    done = reproduce(
        "tiny", folder=folder, jobs=1, on_family=lambda family, sweep: seen.append((folder / PLAN_FILE).read_bytes())
    )
    assert seen == [(folder / PLAN_FILE).read_bytes()]
    assert (done.look, done.plan.scale, done.deviations) == (1, "tiny", ())
    assert done.plan == read_plan(folder).plan
    num_jobs = in_this_process.num_jobs
    again = reproduce("tiny", folder=folder, jobs=1)
    assert in_this_process.num_jobs == num_jobs
    assert (folder / PLAN_FILE).read_bytes() == seen[0]
    assert json_text(again.to_json()) == json_text(done.to_json())
    with pytest.raises(MamlError, match="the whole error of the plan is spent at its one look"):
        reproduce("tiny", folder=folder, until_decided=True)


def test_a_result_of_runs_is_as_its_schema_says(tmp_path, in_this_process):
    jsonschema = pytest.importorskip("jsonschema")
    done = reproduce("tiny", folder=tmp_path / "r", jobs=1)
    content = json.loads(json_text(done.to_json()))
    jsonschema.Draft202012Validator(result_schema()).validate(content)
    assert content["claims"][0]["evidence"]["predictions"][0]["seeds"] == [100, 101]


def test_rates_of_pilots_are_in_the_plan_and_a_cut_search_goes_on(tmp_path, in_this_process):
    folder = tmp_path / "r"
    in_this_process.stop_after = 3
    with pytest.raises(Interrupted):
        reproduce("tiny", folder=folder, jobs=1, choose_rates=True)
    assert not (folder / PLAN_FILE).exists()
    in_this_process.stop_after = 10**6
    done = reproduce("tiny", folder=folder, jobs=1, choose_rates=True)
    [family] = done.plan.families
    assert set(family.rates) == {"depth 1", "depth 2"}
    assert done.plan.rates_from == "pilots"
    recipe = RunDirectory.open(folder / "linear-regression/cells/depth-2-seed-100").recipe
    assert recipe.inner.lr == family.rates["depth 2"]
    # The margin of C1 is a share of the excess that the pilots measured.
    margins = [contrast.margin for contrast in done.plan.contrasts if contrast.claim == "C1"]
    assert margins == pytest.approx([0.05 * family.excess] * 2)


def test_results_of_studies_are_read_without_torch():
    code = "import sys, mamlcli.studies.sweeps.result; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
