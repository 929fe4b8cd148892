"""Event files, read back with TensorBoard's own reader."""

from __future__ import annotations

import json
import math
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mamlcli.common.errors import Interrupted, MamlError
from mamlcli.engine.outer_loop import StepRecord
from mamlcli.recipe.files import load_recipe
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.events import EventLog, check_event_log
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.ongoing import OngoingRun
from mamlcli.training.planned import Progress
from tests.helpers.running import TINY, results, train_run, train_tiny

LOGGED = (
    "logging=tensorboard",
    "outer.iterations=6",
    "outer.checkpoint_every=2",
    "validation.every=2",
    "validation.tasks=3",
)
CURVE_TAGS = {
    "evaluation/query_loss": "loss",
    "evaluation/query_accuracy": "accuracy",
    "evaluation/support_loss": "support_loss",
    "evaluation/support_accuracy": "support_accuracy",
}

pytestmark = pytest.mark.usefixtures("one_thread")


def scalars(folder):
    """Return every scalar of a folder of event files, {tag: [(step, value)]}."""
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def scalars_of_metrics(run):
    """Return what metrics.jsonl has, in the form of `scalars`; event files hold single precision."""
    found = {}
    for record in run.read_metrics():
        prefix = "validation/" if record["kind"] == "validation" else ""
        for key in ("outer_loss", "loss", "accuracy", "grad_norm", "lr"):
            if record.get(key) is not None:
                found.setdefault(prefix + key, []).append((record["iteration"], pytest.approx(record[key], rel=1e-6)))
    return found


def test_a_run_without_the_key_writes_no_event_file(tmp_path):
    run = train_tiny(tmp_path / "run")
    assert not (run.path / "tensorboard").exists()


def test_events_are_the_metrics_of_the_run(tmp_path):
    run = train_tiny(tmp_path / "run", "logistic", *LOGGED)
    found = scalars(run.path / "tensorboard")
    assert set(found) == {"outer_loss", "accuracy", "grad_norm", "lr", "validation/loss", "validation/accuracy"}
    assert found == scalars_of_metrics(run)
    assert [step for step, _ in found["outer_loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in found["validation/loss"]] == [2, 4, 6]


def test_the_final_curve_is_logged_by_inner_step(tmp_path):
    run = train_tiny(tmp_path / "run", "logistic", *LOGGED)
    curve = json.loads((run.path / "evaluation.json").read_text())["curve"]
    assert scalars(run.path / "tensorboard" / "evaluation") == {
        tag: [(point["step"], pytest.approx(point[key]["mean"], rel=1e-6)) for point in curve]
        for tag, key in CURVE_TAGS.items()
    }


def test_regression_has_no_accuracy(tmp_path):
    run = train_tiny(tmp_path / "run", "linear-regression", *LOGGED)
    assert set(scalars(run.path / "tensorboard")) == {"outer_loss", "grad_norm", "lr", "validation/loss"}


def test_logging_changes_no_result(tmp_path):
    plain, logged = [word for word in LOGGED if not word.startswith("logging")], LOGGED
    first, second = train_tiny(tmp_path / "a", "logistic", *plain), train_tiny(tmp_path / "b", "logistic", *logged)
    tensors, metrics, evaluation = results(first.path)
    other_tensors, other_metrics, other_evaluation = results(second.path)
    assert (metrics, evaluation) == (other_metrics, other_evaluation)
    assert all(value.equal(other_tensors[name]) for name, value in tensors.items())


class Cut(Exception):
    """The process ends here, as if it were killed: nothing is saved any more."""


@pytest.mark.parametrize(("kind", "iteration"), [("StepRecord", 5), ("StepRecord", 4), ("ValidationRecord", 4)])
def test_a_resumed_run_writes_no_point_twice_and_loses_none(tmp_path, kind, iteration):
    def cut(record):
        if type(record).__name__ == kind and record.iteration == iteration:
            raise Cut

    with pytest.raises(Cut):
        train_tiny(tmp_path / "run", "logistic", *LOGGED, progress=Progress(on_record=cut))
    run = train_tiny(tmp_path / "run", "logistic", *LOGGED)
    assert run.manifest["resumed_from"]
    assert scalars(run.path / "tensorboard") == scalars_of_metrics(run)


def test_a_run_cut_before_its_first_checkpoint_starts_over_in_the_events_too(tmp_path, monkeypatch):
    def cut(record):
        raise Cut

    monkeypatch.setattr(OngoingRun, "save_if_possible", lambda run: False)  # as if it were killed
    with pytest.raises(Cut):
        train_tiny(tmp_path / "run", "logistic", *LOGGED, progress=Progress(on_record=cut))
    run = train_tiny(tmp_path / "run", "logistic", *LOGGED)
    assert run.manifest["resumed_from"] == []
    assert scalars(run.path / "tensorboard") == scalars_of_metrics(run)


def test_an_evaluation_that_was_cut_is_not_logged_twice(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("mamlcli.training.ongoing.write_evaluation", lambda *_: (_ for _ in ()).throw(Interrupted("cut")))
        with pytest.raises(Interrupted):
            train_tiny(tmp_path / "run", "logistic", *LOGGED)
    run = train_tiny(tmp_path / "run", "logistic", *LOGGED)
    num_points = len(json.loads((run.path / "evaluation.json").read_text())["curve"])
    found = scalars(run.path / "tensorboard" / "evaluation")
    assert {tag: len(points) for tag, points in found.items()} == dict.fromkeys(CURVE_TAGS, num_points)


def test_what_is_written_can_be_read_at_once(tmp_path):
    log = EventLog("tensorboard", tmp_path, 0, [])
    record = {"kind": "step", **vars(StepRecord(1, 0.5, None, math.inf, 0.1)), "elapsed_s": 1.0}
    log.write(record)
    found = scalars(tmp_path / "tensorboard")
    log.close()
    assert found == {"outer_loss": [(1, 0.5)], "grad_norm": [(1, math.inf)], "lr": [(1, pytest.approx(0.1))]}


def test_a_missing_package_is_an_error_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(MamlError, match="pip install tensorboard"):
        check_event_log("tensorboard")
    check_event_log("none")
    recipe = load_recipe("logistic", [*TINY, "logging=tensorboard"])[1]
    run = RunDirectory.create(tmp_path / "run", recipe, "logistic")
    with pytest.raises(MamlError, match="pip install tensorboard"):
        train_run(run, build(recipe, splits=splits_of_training(recipe)), argv=[])
    assert run.manifest["status"] == "created"


def test_the_command_makes_no_run_where_the_package_is_missing(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    ended = cli("train", "logistic", *TINY, "logging=tensorboard")
    assert ended.code == 1
    assert ended.errors[0].startswith("logging: expected the package tensorboard for logging=tensorboard")
    assert not (tmp_path / "runs").exists()


def test_an_unknown_kind_of_logging_is_refused(cli):
    ended = cli("train", "logistic", "logging=tensorbord")
    assert ended.code == 1
    assert "logging: expected 'none' or 'tensorboard', got 'tensorbord'." in ended.errors[0]


def test_a_recipe_of_before_the_key_is_read_without_logging():
    assert Recipe.model_validate({"tasks": {"source": "logistic"}, "model": {"kind": "mlp"}}).logging == "none"
