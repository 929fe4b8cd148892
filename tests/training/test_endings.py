"""Whatever ends a training, at whatever moment: the last checkpoint is whole, the manifest says it, it can go on."""

from __future__ import annotations

import errno
import os
from itertools import count

import pytest
from safetensors.torch import load_file

from mamlcli.common.disk import EnvironmentFault, environment_error
from mamlcli.common.errors import Interrupted, MamlError
from mamlcli.common.files import atomic_write
from mamlcli.engine.outer_loop import StepRecord, ValidationRecord
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.search import is_run
from mamlcli.training import checkpoints
from mamlcli.training.endings import environment_told, way_on
from mamlcli.training.planned import Progress
from tests.helpers.running import assert_same_results, train_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

KEYS = ("outer.iterations=4", "outer.checkpoint_every=2", "validation={every: 2, tasks: 2}", "inner.steps=1")
RARELY = (*KEYS, "outer.checkpoint_every=1000")


@pytest.fixture(autouse=True)
def quick_figures(monkeypatch):
    """Write the figure of a run without drawing it."""
    monkeypatch.setattr("mamlcli.training.scoring.save_curve", lambda report, path: atomic_write(path, b"figure"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run is that nothing ended."""
    return train_tiny(tmp_path_factory.mktemp("whole") / "run", "linear-regression", *KEYS).path


def assert_goes_on(path, whole, keys=KEYS):
    """Go on with a run, and compare its end with that of a run that nothing ended."""
    run = train_tiny(path, "linear-regression", *keys)
    assert run.manifest.status == "done"
    assert_same_results(path, whole)


def error_of(work):
    """Return what work ends by; None where it ends well."""
    try:
        work()
    except Exception as error:
        return error
    return None


class Other(Exception):
    """What a display, a metric or a callback may raise."""


# A disk that is full, in the middle of everything -----------------------------------------------------------------


@pytest.mark.parametrize(("operation", "number"), [("fsync", errno.ENOSPC), ("replace", errno.EDQUOT)])
def test_disk_that_is_full_from_any_write_on_leaves_a_run_that_goes_on(tmp_path, monkeypatch, whole, operation, number):
    real, failures = getattr(os, operation), 0
    for nth in count():
        calls = 0

        def full(*args, _nth=nth, **kept):
            nonlocal calls
            calls += 1
            if calls > _nth:
                raise OSError(number, os.strerror(number))
            return real(*args, **kept)

        path = tmp_path / str(nth)
        with monkeypatch.context() as patch:
            patch.setattr(os, operation, full)
            error = error_of(lambda path=path: train_tiny(path, "linear-regression", *KEYS))
        if error is None:
            break
        assert "Free some of" in str(error if isinstance(error, MamlError) else environment_error(error))
        if not is_run(path):  # while the folder was made, before there was a run
            continue
        failures += 1
        for file in (path / "checkpoints").glob("*"):
            load_file(file)
        assert RunDirectory.open(path).manifest.status in ("created", "running")  # no room for more
        assert not list(path.rglob("*.partial"))
        assert_goes_on(path, whole)
    assert failures >= 8


def test_status_and_state_are_kept_where_one_write_alone_failed(tmp_path, monkeypatch, whole):
    real, calls = checkpoints.atomic_write, []

    def once(path, data, **kept):
        calls.append(path.name)
        if calls.count("last.safetensors") == 1 and path.name == "last.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, data, **kept)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "atomic_write", once)
        with pytest.raises(EnvironmentFault, match=r"Free some .*The run is saved after iteration 2\. Go on: mamlcli"):
            train_tiny(tmp_path / "run", "linear-regression", *KEYS)
    manifest = RunDirectory.open(tmp_path / "run").manifest
    assert (manifest.status, manifest["error"]) == ("failed", "EnvironmentFault")
    assert "Free some of the disk" in manifest["reason"]
    assert_goes_on(tmp_path / "run", whole)


def test_metrics_that_cannot_be_written_leave_no_checkpoint_that_they_lag_behind(tmp_path, monkeypatch, whole):
    real = RunDirectory.append_metrics

    def full(run, record):
        if record["iteration"] == 3:
            raise OSError(errno.EFBIG, "File too large", str(run.path / "metrics.jsonl"))
        real(run, record)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append_metrics", full)
        with pytest.raises(EnvironmentFault, match=r"ulimit -f unlimited.*saved after iteration 2"):
            train_tiny(tmp_path / "run", "linear-regression", *KEYS)
    assert_goes_on(tmp_path / "run", whole)


def test_run_whose_folder_vanished_is_told_so(tmp_path):
    def vanish(record):
        if record.iteration == 1:
            os.rename(tmp_path / "run", tmp_path / "moved")

    with pytest.raises(EnvironmentFault, match=r"Do not move or delete .*run") as caught:
        train_tiny(tmp_path / "run", "linear-regression", *KEYS, progress=Progress(on_record=vanish))
    assert "--resume" not in str(caught.value)


# Errors of what is beside the training --------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Other("x"), SystemExit(1), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("kind", [StepRecord, ValidationRecord])
def test_any_error_of_a_display_saves_what_was_trained(tmp_path, error, kind):
    def fail(record):
        if isinstance(record, kind) and record.iteration == 2:
            raise error

    with pytest.raises(type(error)):
        train_tiny(tmp_path / "run", "linear-regression", *RARELY, progress=Progress(on_record=fail))
    manifest = RunDirectory.open(tmp_path / "run").manifest
    is_interrupted = isinstance(error, KeyboardInterrupt)
    assert (manifest.status, manifest.iterations_done) == ("interrupted" if is_interrupted else "failed", 2)
    assert manifest["error"] == type(error).__name__
    started = []
    seen = Progress(on_start=lambda *told: started.append(told[2]))
    train_tiny(tmp_path / "run", "linear-regression", *RARELY, progress=seen)
    assert started == [2]


def test_error_in_the_middle_of_an_update_saves_nothing_of_it(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        patch.setattr("torch.optim.Adam.step", raising(Other("x"), at=4))
        with pytest.raises(Other):
            train_tiny(tmp_path / "run", "linear-regression", *KEYS)
    assert_goes_on(tmp_path / "run", whole)


def raising(error, *, at):
    """Return a step of an optimizer that moves the parameters a bit and then fails, at its nth call."""
    from torch.optim import Adam

    real, calls = Adam.step, []

    def step(optimizer):
        calls.append(1)
        if len(calls) == at:
            optimizer.param_groups[0]["params"][0].data.add_(1.0)
            raise error
        return real(optimizer)

    return step


def test_interruption_that_cannot_be_saved_does_not_say_that_it_was(tmp_path, monkeypatch):
    def full(path, data, **kept):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def stop(record):
        raise Interrupted("interrupted after iteration 1; the run is saved")

    monkeypatch.setattr(checkpoints, "atomic_write", full)
    with pytest.raises(EnvironmentFault, match="Free some of the disk"):
        train_tiny(tmp_path / "run", "linear-regression", *RARELY, progress=Progress(on_record=stop))
    assert RunDirectory.open(tmp_path / "run").manifest.status == "failed"


def test_way_on_is_that_of_a_run_that_is_there(tmp_path):
    assert way_on(RunDirectory(tmp_path)) is None
    with pytest.raises(EnvironmentFault), environment_told(RunDirectory(tmp_path)):
        raise OSError(errno.EROFS, "Read-only file system")
    with pytest.raises(OSError, match="no number"), environment_told(RunDirectory(tmp_path)):
        raise OSError("no number")
