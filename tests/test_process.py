"""From Python: a call leaves the process as it was, also where it fails, and takes nothing from how the process is."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time

import matplotlib
import pytest
import torch

import mamlcli
from mamlcli.engine.threads import can_renew_operation_threads
from mamlcli.runs.curve_figure import save_curve
from tests.helpers.image_files import class_folders
from tests.helpers.models import GLYPHS
from tests.helpers.process_state import process_state, small_numbers
from tests.helpers.running import TINY

SMALL = {"tasks.dimension": 3}


@pytest.fixture(autouse=True)
def all_is_imported(run):
    """Have packages imported, which may set filters of warnings of their own, before a test looks."""
    importlib.import_module("scipy.sparse")


def unchanged(call):
    """Call a function, which may raise, and compare the process before and after."""
    torch.set_num_threads(2)  # the fixture sets back what was
    before = process_state()
    try:
        call()
    finally:
        after = process_state()
    assert {name: after[name] for name in before if after[name] != before[name]} == {}


@pytest.fixture(autouse=True)
def own_threads(one_thread):
    """Leave torch's number of threads to the next test as it was."""


@pytest.fixture(scope="module", autouse=True)
def drawn_curves_of_all():
    """Draw the curves of runs: drawing must leave the process as it was, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mamlcli.training.scoring.save_curve", save_curve)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return mamlcli.train("linear-regression", *TINY, SMALL, run_dir=tmp_path_factory.mktemp("process") / "run")


KINDS = {
    "explicit": (),
    "loop": ("execution.path=loop", "execution.threads=2"),
    "constant memory": ("inner.memory=constant",),
    "transform": ("inner.transform=kfo",),
}


@pytest.mark.parametrize("keys", KINDS.values(), ids=KINDS)
def test_training_changes_nothing(tmp_path, keys):
    unchanged(lambda: mamlcli.train("linear-regression", *TINY, SMALL, *keys, run_dir=tmp_path / "run"))


def test_loading_adapting_and_predicting_change_nothing(tmp_path):
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    folder = class_folders(tmp_path / "images", ["a", "b"], num_images=2)
    unchanged(lambda: mamlcli.load(GLYPHS))
    unchanged(lambda: mamlcli.load(GLYPHS).module)
    unchanged(lambda: mamlcli.adapt(GLYPHS, images, torch.arange(5))(images))
    unchanged(lambda: mamlcli.predict(GLYPHS, (images, torch.arange(5)), images))
    unchanged(lambda: mamlcli.predict(GLYPHS, folder, folder))


def test_studies_change_nothing(tmp_path):
    unchanged(
        lambda: mamlcli.sweep("linear-regression", *TINY, SMALL, depths=[1], seeds=1, jobs=1, folder=tmp_path / "s")
    )


def stop(record):
    raise OSError("the disk is full")


FAILING = {
    "a recipe that is wrong": lambda folder, run: mamlcli.train("sinusoid", "outer.tasks=0"),
    "a run that is there": lambda folder, run: mamlcli.train("linear-regression", *TINY, SMALL, run_dir=run.path),
    "training": lambda folder, run: mamlcli.train(
        "linear-regression", *TINY, SMALL, run_dir=folder / "r", on_record=stop
    ),
    "divergence": lambda folder, run: mamlcli.train(
        "linear-regression", *TINY, SMALL, "inner.lr=1e30", "inner.steps=5", run_dir=folder / "r"
    ),
    "load": lambda folder, run: mamlcli.load(folder / "nothing"),
    "adapt": lambda folder, run: mamlcli.adapt(run, torch.zeros(2, 99), torch.zeros(2)),
    "predict": lambda folder, run: mamlcli.predict(run, folder, folder),
    "sweep": lambda folder, run: mamlcli.sweep("sinusoid", folder=folder / "s"),
    "sweep of a wrong depth": lambda folder, run: mamlcli.sweep("logistic", depths=[0], folder=folder / "s"),
    "reproduce": lambda folder, run: mamlcli.reproduce("lap", folder=folder / "p"),
}


@pytest.mark.parametrize("call", FAILING.values(), ids=FAILING)
def test_calls_that_fail_change_nothing(call, tmp_path, run):
    with pytest.raises((mamlcli.MamlError, OSError)):
        unchanged(lambda: call(tmp_path, run))


# A process of its own, in which nothing was computed before: threads that share an operation are started in the call.
FRESH = """
import os, sys
import mamlcli
assert "torch" not in sys.modules and "matplotlib" not in sys.modules
import matplotlib, torch
backend, environment = matplotlib.rcParams._get("backend"), dict(os.environ)
torch.set_num_threads(2)
mamlcli.train("linear-regression", {"model.width": 300, "model.depth": 2, "tasks.dimension": 3}, "outer.iterations=1",
    "outer.tasks=2", "evaluation.tasks=2", "validation.every=null", "execution.path=loop", "execution.threads=2",
    run_dir=sys.argv[1])
tiny = torch.full((4_000_000,), 1e-40) * 1
assert int((tiny == 0).sum()) == 0, "threads of the user take tiny numbers as zero"
assert matplotlib.rcParams._get("backend") is backend
assert dict(os.environ) == environment
"""


@pytest.mark.skipif(not can_renew_operation_threads(), reason="needs an OpenMP of version 5.0, which torch 2.6 has not")
def test_threads_that_a_call_starts_take_no_tiny_numbers_as_zero_after_it(tmp_path):
    fonts = {"MPLCONFIGDIR": matplotlib.get_cachedir()}  # to list them takes seconds
    environment = os.environ | fonts | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path / "run")], check=True, env=environment)


@pytest.mark.parametrize(
    "setting",
    [
        lambda: torch.inference_mode(),
        lambda: torch.no_grad(),
        lambda: torch.device("meta"),
        lambda: torch.random.fork_rng(devices=[]),
    ],
    ids=["inference", "no gradients", "another device", "another seed"],
)
def test_results_do_not_depend_on_what_the_process_has_set(tmp_path, run, setting):
    with setting():
        if torch.get_default_device().type == "cpu":
            torch.manual_seed(99)
        again = mamlcli.train("linear-regression", *TINY, SMALL, run_dir=tmp_path / "run")
    assert again.report["final"] == run.report["final"]
    assert all(torch.equal(again.params[name], value) for name, value in run.params.items())


def test_results_do_not_depend_on_the_default_type(tmp_path, run):
    before = small_numbers()
    torch.set_default_dtype(torch.float64)
    try:
        again = mamlcli.train("linear-regression", *TINY, SMALL, run_dir=tmp_path / "run")
        assert small_numbers() == before
    finally:
        torch.set_default_dtype(torch.float32)
    assert again.report["final"] == run.report["final"]


# Interruptions -------------------------------------------------------------------------------------------------------


def interrupt(record):
    if record.iteration == 1:
        signal.raise_signal(signal.SIGINT)


def test_interruption_is_told_by_an_error_and_the_users_handler_is_left(tmp_path):
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with pytest.raises(mamlcli.Interrupted, match=r"the run is saved. Continue: "):
            mamlcli.train("linear-regression", *TINY, SMALL, run_dir=tmp_path / "run", on_record=interrupt)
        assert heard == []
        signal.raise_signal(signal.SIGINT)
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
    resumed = mamlcli.train("linear-regression", *TINY, SMALL, run_dir=tmp_path / "run", resume=True)
    assert resumed.report is not None


def test_second_interruption_is_the_keyboards(tmp_path):
    def twice(record):
        interrupt(record)
        time.sleep(0.2)  # two at once are one, as `timeout` sends them
        interrupt(record)

    with pytest.raises(KeyboardInterrupt):
        unchanged(lambda: mamlcli.train("linear-regression", *TINY, SMALL, run_dir=tmp_path / "run", on_record=twice))


def test_training_in_a_thread_that_is_not_the_main_one_handles_no_signals(tmp_path):
    seen, results = [], []

    def look(record):
        seen.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)))

    def work():
        results.append(
            mamlcli.train("linear-regression", *TINY, SMALL, run_dir=tmp_path / "run", on_record=look).report
        )

    before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results[0] is not None
    assert set(seen) == {before}
