"""A run that starts from the weights of another takes what fits, starts the rest anew, and says which."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.checkpoints import load_checkpoint
from mamlcli.training.from_run import first_weights, start_words, weights_digest
from mamlcli.training.planned import PlannedRun, Progress
from mamlcli.training.run import train_runs
from mamlcli.training.start import Start, start_of
from mamlcli.training.trained import best_weights
from tests.helpers.running import TINY, built, train_tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def untrained(monkeypatch):
    """Let runs be made and not trained."""
    monkeypatch.setattr("mamlcli.training.start.train_runs", lambda plans, group: [RuntimeError("not trained")])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run with validations and a gradient transform."""
    path = tmp_path_factory.mktemp("runs") / "source"
    return train_tiny(path, "logistic", "validation.every=1", "validation.tasks=3", "inner.transform=kfo")


def begun(source, path, *changes, **how):
    """Make a run with the source's recipe and weights, and return its first checkpoint and its manifest."""
    start = start_of(None, changes, path, source.label, **how)
    assert start.finished() is None
    with pytest.raises(RuntimeError, match="not trained"):
        start.train(argv=["mamlcli"], progress=Progress())
    run = RunDirectory.open(path)
    return load_checkpoint(run, "last"), run.manifest


def test_run_begins_with_the_best_weights_at_iteration_0(source, tmp_path, untrained):
    (tensors, primitives), manifest = begun(source, tmp_path / "run", "outer.lr=0.5", "seed=4")
    best, words = best_weights(source, built("logistic", "inner.transform=kfo"))
    assert sorted(tensors) == sorted(best.flat())
    assert all(torch.equal(tensors[name], value) for name, value in best.flat().items())
    assert primitives["iteration"] == 0
    assert primitives["best_score"] is None
    record = manifest.started_from
    assert (record["run"], record["weights"], record["digest"]) == (str(source.path), words, weights_digest(best))
    assert record["taken"] == ["initialisation", "gradient transform"]
    recipe = RunDirectory.open(tmp_path / "run").recipe
    assert (recipe.outer.lr, recipe.seed, recipe.inner.transform.name) == (0.5, 4, "kfo")


def test_training_goes_on_from_these_weights(source, tmp_path):
    start = start_of(
        None, ["outer.iterations=1", "outer.optimizer=sgd", "outer.lr=1e-30"], tmp_path / "run", source.path
    )
    start.train(argv=["mamlcli"], progress=Progress())
    tensors = load_checkpoint(RunDirectory.open(tmp_path / "run"), "last")[0]
    best, _ = best_weights(source, built("logistic", "inner.transform=kfo"))
    assert all(torch.equal(tensors[name], value) for name, value in best.flat().items())  # a step of 1e-30 is none


def test_transform_that_one_of_both_has_starts_anew_or_is_left_out(source, tmp_path):
    without = train_tiny(tmp_path / "plain", "logistic")
    anew = first_weights(without, built("logistic", "inner.transform=kfo"))
    fresh = built("logistic", "inner.transform=kfo").initial_meta().transform
    assert all(torch.equal(anew.meta.transform[name], value) for name, value in fresh.items())
    assert anew.record["new"] == ["outer optimizer", "gradient transform"]
    left = first_weights(source, built("logistic"))
    assert left.meta.transform == {}
    assert start_words(left.record).endswith("new: outer optimizer; left out: gradient transform")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("tasks.dimension=3",), r"got head\.0\.weight \[2, 20\] \(here \[2, 3\]\)\. The keys of model"),
        (("model.depth=2",), r"body\.0\.weight|head\.1\.weight"),
        (("inner.transform=meta-sgd",), r"The keys of inner\.transform and inner\.rates"),
    ],
)
def test_weights_of_other_shapes_are_refused_with_the_keys(source, tmp_path, changes, words):
    with pytest.raises(RunError, match=words) as caught:
        start_of(None, changes, tmp_path / "run", source.path).train(argv=[], progress=Progress())
    assert str(caught.value).startswith(f"--from {source.path}: expected weights of the same names and shapes")
    assert not (tmp_path / "run").exists()


def test_output_layer_of_another_kind_is_made_of_the_learned_one(tmp_path):
    source = train_tiny(tmp_path / "source", "logistic", "model.depth=2")
    taken = first_weights(source, built("logistic", "model.depth=2", "inner.head=zero", "execution.dtype=float64"))
    learned, _ = best_weights(source, built("logistic", "model.depth=2"))
    assert 0 < len(taken.meta.model) < len(learned.model)
    for name, value in taken.meta.model.items():
        assert value.dtype == torch.float64
        assert torch.equal(value, learned.model[name].double())


def test_run_whose_first_weights_were_lost_is_not_begun_with_others(source, tmp_path, untrained):
    begun(source, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    start = Start.of_resumed(tmp_path / "run", [])
    assert start.finished() is None

    experiment = built("logistic", "inner.transform=kfo", splits=("train", "validation", "test"))
    run = RunDirectory.open(tmp_path / "run")
    [end] = train_runs([PlannedRun(run, experiment, [], Progress())])
    assert isinstance(end, RunError)
    assert "the weights of" in str(end)


def test_run_does_not_replace_the_one_that_it_starts_from(source):
    with pytest.raises(RunError, match="the run itself, which --force deletes"):
        start_of(None, [], source.path, source.path, is_forced=True).finished()
    assert source.has_report


def test_shipped_model_gives_its_weights(tmp_path, untrained, with_glyphs):
    model = RunDirectory.open(Path("glyphs-5way-1shot@1"))
    _, manifest = begun(model, tmp_path / "run", "outer.iterations=2", "execution.device=cpu")
    assert manifest.started_from["run"] == "glyphs-5way-1shot@1"
    assert manifest.recipe_name == "glyphs-5way-1shot"


def test_recipe_of_ones_own_takes_the_weights_too(source, tmp_path, untrained):
    name, recipe = load_recipe("logistic", (*TINY, "inner.transform=kfo", "inner.lr=3"))
    start = Start(name, recipe, tmp_path / "run", source=source)
    with pytest.raises(RuntimeError, match="not trained"):
        start.train(argv=[], progress=Progress())
    assert RunDirectory.open(tmp_path / "run").manifest.started_from["run"] == str(source.path)
