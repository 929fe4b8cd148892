"""Studies and the reproduction, called from Python."""

import json
import subprocess
import sys

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.studies.start import reproduce, run_study
from mamlcli.studies.sweeps.result import StudyResult
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


def test_results_of_studies_are_read_without_torch():
    code = "import sys, mamlcli.studies.sweeps.result; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
