"""Event files, read back with TensorBoard's own reader."""

from __future__ import annotations

import json
import math

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mamlcli.common.errors import Interrupted
from mamlcli.training.ongoing import OngoingRun
from mamlcli.training.planned import Progress
from mamlcli.training.trackers.event_files import EventFiles
from tests.helpers.running import results, train_tiny
from tests.helpers.trackers import tracked

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
    events = EventFiles()
    events.begin(tracked(tmp_path))
    events.record(1, {"outer_loss": 0.5, "grad_norm": math.inf, "lr": 0.1})
    events.validation(1, {"loss": 0.25})
    found = scalars(tmp_path / "tensorboard")
    events.end("done")
    assert found == {
        "outer_loss": [(1, 0.5)],
        "grad_norm": [(1, math.inf)],
        "lr": [(1, pytest.approx(0.1))],
        "validation/loss": [(1, 0.25)],
    }


def test_settings_and_the_picture_of_the_curve_are_there(tmp_path, drawn_curves):
    run = train_tiny(tmp_path / "run", "logistic", *LOGGED)
    reader = EventAccumulator(str(run.path / "tensorboard"))
    reader.Reload()
    [settings] = reader.Tensors("settings/text_summary")
    assert "| inner.steps |" in settings.tensor_proto.string_val[0].decode()
    figures = EventAccumulator(str(run.path / "tensorboard" / "evaluation"))
    figures.Reload()
    [image] = figures.Images("curve")
    assert image.encoded_image_string.startswith(b"\x89PNG")
    with Image.open(run.curve_path) as drawn:
        assert (image.width, image.height) == drawn.size
