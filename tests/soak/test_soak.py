"""The part of the harness that runs with the tests: kills at some points and at four instants; the harness itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from tests.helpers.running import results, train_tiny
from tests.soak.long_runs import Held
from tests.soak.points import Points
from tests.soak.processes import SWEEP, TRAIN, Form, difference
from tests.soak.walk import Walked

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="processes and files are looked up in /proc")

# One point in 17 of a hundred, and four instants, take about as long as two runs of the program; `make soak` has all.
SEED, STEP, KILLS = 7, 17, 4


def test_run_killed_at_any_point_and_instant_goes_on_to_the_same_bits(tmp_path):
    fonts = {"MPLCONFIGDIR": matplotlib.get_cachedir()}  # to list them takes seconds
    environment = os.environ | fonts | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.soak.walk", str(tmp_path), *map(str, (SEED, STEP, KILLS))]
    ended = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    walked = Walked(**json.loads(ended.stdout.decode().splitlines()[-1]))
    assert walked.faults == []
    assert walked.points > 80
    assert (walked.tried, walked.kills) >= (walked.points // STEP, KILLS)


# The harness itself -----------------------------------------------------------------------------------------------

CHILD = """
import os, sys
from pathlib import Path
from tests.soak.points import Points
folder = Path(sys.argv[1])
Points(folder, int(sys.argv[2]), lambda words: None).install()
with (folder / "a").open("w") as stream:
    stream.write("first line")
os.replace(folder / "a", folder / "b")
with open(folder.parent / "elsewhere", "w") as stream:
    stream.write("no point")
with os.fdopen(os.open(folder / "c", os.O_CREAT | os.O_WRONLY), "wb") as stream:
    stream.write(b"bytes!")
    os.fsync(stream.fileno())
(folder / "b").unlink()
"""
LEFT = {
    1: {"a": ""},
    2: {"a": "first"},
    3: {"a": "first line"},
    4: {"b": "first line", "c": ""},
    5: {"b": "first line", "c": "byt"},
    6: {"b": "first line", "c": ""},  # in the buffer of the stream until it is flushed
    7: {"b": "first line", "c": "bytes!"},
    8: {"c": "bytes!"},
}


@pytest.mark.parametrize("number", LEFT)
def test_process_is_killed_at_the_point_that_is_asked_for(tmp_path, number):
    (tmp_path / "run").mkdir()
    words = [sys.executable, "-c", CHILD, str(tmp_path / "run"), str(number)]
    ended = subprocess.run(words, cwd=ROOT, check=False)
    assert ended.returncode == (0 if number == 8 else -9)
    assert {path.name: path.read_text() for path in (tmp_path / "run").iterdir()} == LEFT[number]


def test_points_elsewhere_are_not_counted(tmp_path):
    assert not Points(tmp_path / "run", 1, lambda words: None).reach("write", tmp_path / "other")


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(name) for name in ("whole", "other")]
    for folder in folders:
        train_tiny(folder / "run", "linear-regression", "outer.checkpoint_every=1")
    return folders


def test_equal_runs_are_found_equal(two_runs):
    assert difference(TRAIN, two_runs[1], two_runs[0]) is None


def change_metrics(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([*lines, lines[-1]]))


def leave_litter(run: Path) -> None:
    (run / ".manifest.json.x.partial").touch()


def change_status(run: Path) -> None:
    text = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(text.replace('"status": "done"', '"status": "running"'))


@pytest.mark.parametrize(
    ("change", "said"),
    [(change_metrics, "other results"), (leave_litter, "left behind"), (change_status, "status 'running'")],
)
def test_what_differs_is_found(two_runs, change, said):
    import shutil

    changed = two_runs[1].parent / change.__name__
    shutil.copytree(two_runs[1], changed, dirs_exist_ok=True)
    change(changed / "run")
    assert said in (difference(TRAIN, changed, two_runs[0]) or "")


def test_a_missing_run_is_found(two_runs, tmp_path):
    assert "expected the runs ['run']" in (difference(TRAIN, tmp_path, two_runs[0]) or "")


@pytest.mark.parametrize("form", [TRAIN, SWEEP])
def test_a_command_begins_anew_until_there_is_something_to_go_on_with(form: Form, tmp_path):
    assert form.next_words(tmp_path) == form.start
    (tmp_path / form.mark).parent.mkdir()
    (tmp_path / form.mark).touch()
    assert form.next_words(tmp_path) == form.resume


def test_growth_of_more_than_two_per_cent_is_a_fault():
    assert Held("work", (100.0, 101.9), (4, 4), (9, 8)).fault() is None
    assert Held("work", (100.0, 102.1), (4, 4), (9, 9)).fault() == "MB 100.0 -> 102.1"
    assert Held("work", (100.0, 90.0), (4, 5), (9, 10)).fault() == "threads 4 -> 5, files 9 -> 10"


def test_results_hold_all_that_a_run_computed(two_runs):
    tensors, metrics, evaluation = results(two_runs[0] / "run")
    assert tensors
    assert len(metrics) == 3
    assert evaluation["final"]
