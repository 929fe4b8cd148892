"""A run that is trained for longer is, bit for bit, one that was made for as long."""

from __future__ import annotations

import json

import pytest
import torch

from mamlcli.common.errors import RunError
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.outer_loop import StepRecord
from mamlcli.engine.state import OuterLoop, new_state
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.checkpoints import load_checkpoint, save_checkpoint
from mamlcli.training.lengthening import without_extra_validation
from mamlcli.training.planned import Progress
from mamlcli.training.start import Start
from tests.helpers.running import assert_same_results, cut_after, report_of, train_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

VALIDATED = ("validation.every=2", "validation.tasks=3")


def lengthened(path, length, progress=None):
    """Train a run to another number of meta-iterations."""
    start = Start.of_resumed(path, [f"outer.iterations={length}"])
    report = start.finished()
    return report or start.train(argv=["mamlcli", "train"], progress=progress or Progress())


def manifest_of(run):
    return json.loads((run / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("recipe", "keys"),
    [
        ("logistic", ()),
        ("logistic", (*VALIDATED, "inner.transform=kfo")),
        ("sinusoid", ("outer.multi_step_loss=3", "inner.steps=2", "outer.optimizer=sgd")),
    ],
)
def test_longer_run_equals_one_made_for_as_long(tmp_path, recipe, keys):
    run = train_tiny(tmp_path / "run", recipe, *keys, "outer.iterations=2").path
    lengthened(run, 5)
    assert_same_results(run, train_tiny(tmp_path / "whole", recipe, *keys, "outer.iterations=5").path)
    assert RunDirectory.open(run).recipe.outer.iterations == 5


@pytest.mark.parametrize("is_best", [False, True])
def test_validation_at_the_former_end_leaves_no_trace_unless_it_was_the_best(is_best):
    outer = OuterLoop(num_outer_steps=9, lr=1.0, validate_every=4)
    meta = MetaParams({"w": torch.zeros(1)}, {})
    state = new_state(meta, outer)
    state.iteration = state.last_validated = 6
    state.best_iteration, state.num_without_best = (6, 0) if is_best else (4, 1)
    after = without_extra_validation(state, outer)
    assert (after.last_validated, after.num_without_best) == ((6, 0) if is_best else (4, 0))
    again = without_extra_validation(after, outer)
    assert (again.last_validated, again.num_without_best) == ((6, 0) if is_best else (4, 0))
    at_its_own_end = OuterLoop(num_outer_steps=6, lr=1.0, validate_every=4)
    state.last_validated = 6
    assert without_extra_validation(state, at_its_own_end).last_validated == 6


def test_validation_that_chose_the_weights_at_the_former_end_is_told_of(tmp_path):
    keys = ("validation.every=2", "validation.tasks=3", "outer.iterations=3")
    run = train_tiny(tmp_path / "run", "logistic", *keys)
    tensors, primitives = load_checkpoint(run, "last")
    for best, is_told in ((2, False), (3, True)):
        save_checkpoint(run, "last", tensors, {**primitives, "best_iteration": best})
        notes = Start.of_resumed(run.path, ["outer.iterations=8"]).notes()
        assert [note.startswith("iteration 3: validated at the former end") for note in notes[1:]] == [True] * is_told


def test_result_is_replaced_whole_and_noted(tmp_path):
    run = train_tiny(tmp_path / "run", "logistic").path
    before = report_of(run)
    lengthened(run, 4)
    assert report_of(run) != before
    manifest = manifest_of(run)
    assert manifest["changes"] == [{"iteration": 2, "key": "outer.iterations", "before": 2, "now": 4}]
    [earlier] = manifest["earlier_results"]
    assert (earlier["iterations"], earlier["weights"]) == (2, before["weights"])
    assert earlier["final"]["loss"]["mean"] == before["curve"][-1]["loss"]["mean"]
    assert (manifest["status"], manifest["iterations_done"], manifest["resumed_from"]) == ("done", 4, [2])


def test_cut_longer_training_has_no_result_and_goes_on_to_the_same_bits(tmp_path):
    run = train_tiny(tmp_path / "run", "logistic", *VALIDATED, "outer.iterations=3").path
    progress, _ = cut_after(StepRecord, 4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        lengthened(run, 6, progress)
    assert not (run / "evaluation.json").exists()
    assert not (run / "tasks.csv").exists()
    start = Start.of_resumed(run, [])
    assert start.changes() == {}
    assert start.finished() is None
    start.train(argv=["mamlcli"], progress=Progress())
    other = train_tiny(tmp_path / "other", "logistic", *VALIDATED, "outer.iterations=3").path
    lengthened(other, 6)
    assert_same_results(run, other)
    assert len(manifest_of(run)["changes"]) == 1


def test_shorter_than_done_is_refused(tmp_path):
    run = train_tiny(tmp_path / "run", "logistic").path
    with pytest.raises(RunError, match=r"outer\.iterations: expected at least 2, the meta-iterations done, got 1"):
        lengthened(run, 1)


def test_schedule_that_depends_on_the_length_is_refused_with_the_way(tmp_path):
    run = train_tiny(tmp_path / "run", "logistic", "outer.schedule=cosine").path
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"got outer\.schedule=cosine\. .*--from .*run outer\.iterations=9"):
        lengthened(run, 9)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_run_that_stopped_early_would_have_stopped_there_in_a_longer_training(tmp_path):
    keys = ("validation.every=1", "validation.tasks=3", "validation.patience=1", "outer.lr=3")
    run = train_tiny(tmp_path / "run", "logistic", *keys, "outer.iterations=20").path
    assert manifest_of(run)["status"] == "stopped early"
    with pytest.raises(RunError, match="expected a run that did not stop early"):
        lengthened(run, 40)


def test_run_without_its_state_is_not_trained_from_the_start_as_if_it_went_on(tmp_path):
    run = train_tiny(tmp_path / "run", "logistic").path
    (run / "checkpoints" / "last.safetensors").unlink()
    with pytest.raises(RunError, match=r"last\.safetensors: expected the state that training goes on from"):
        lengthened(run, 4)
    assert (run / "evaluation.json").is_file()
