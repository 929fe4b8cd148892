"""mamlcli from Python: `train`, `load`, `adapt`, `predict`, as a notebook uses them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

import mamlcli
from mamlcli.common.errors import DeviceError, MamlError, RecipeError, RunError
from mamlcli.training.rescoring import adapt_run
from tests.helpers.image_files import class_folders
from tests.helpers.models import GLYPHS
from tests.helpers.running import TINY, TINY_IMAGES

CPU = "execution.device=cpu"
SINUSOID = (*TINY, "outer.iterations=20", "inner.lr=0.02", "inner.steps=3", "evaluation.steps=3", CPU)


@pytest.fixture(scope="module")
def sinusoid(tmp_path_factory):
    return mamlcli.train("sinusoid", *SINUSOID, run_dir=tmp_path_factory.mktemp("api") / "sinusoid")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A run on class folders of noise, and the folder."""
    root = tmp_path_factory.mktemp("photos")
    data = class_folders(root / "data", [f"c{index}" for index in range(6)], num_images=4)
    keys = {"tasks.path": str(data), "tasks.ways": 3, "evaluation.split": "train", "tasks.image_size": 12}
    return mamlcli.train("folder", *TINY_IMAGES, keys, run_dir=root / "run"), data


def test_import_loads_no_torch_and_knows_its_names():
    code = (
        "import sys, mamlcli; assert mamlcli.__version__; assert 'torch' not in sys.modules; "
        "assert {'train', 'load', 'adapt', 'predict', 'sweep', 'reproduce'} <= set(dir(mamlcli)); "
        "assert not hasattr(mamlcli, 'nonsense'); assert 'torch' not in sys.modules; "
        "mamlcli.train; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_train_makes_a_run_that_load_gives_back(sinusoid):
    assert sinusoid.report["protocol"]["num_tasks"] == 3
    assert len(sinusoid.report["curve"]) == 4
    again = mamlcli.load(str(sinusoid.path))
    assert again.recipe == sinusoid.recipe
    assert again.report == sinusoid.report
    assert again.weights == "last, iteration 20"
    assert {name: value.tolist() for name, value in again.params.items()} == {
        name: value.tolist() for name, value in sinusoid.params.items()
    }
    assert repr(again) == f"Run({str(sinusoid.path)!r}, sinusoid, maml, last, iteration 20)"


def test_train_says_nothing_keeps_the_threads_and_tells_its_records(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    before, records = torch.get_num_threads(), []
    run = mamlcli.train(
        "linear-regression", *TINY, {"model.depth": 2, "outer.clip_norm": None}, on_record=records.append
    )
    assert capfd.readouterr() == ("", "")
    assert torch.get_num_threads() == before
    assert [record.iteration for record in records] == [1, 2]
    assert (run.recipe.model.depth, run.recipe.outer.clip_norm) == (2, None)
    assert run.path.resolve() == (tmp_path / "runs" / "linear-regression-1").resolve()


def test_train_resumes_and_replaces_only_where_asked(tmp_path):
    first = mamlcli.train("linear-regression", *TINY, run_dir=tmp_path / "run")
    with pytest.raises(RunError, match="expected a new or empty folder"):
        mamlcli.train("linear-regression", *TINY, run_dir=tmp_path / "run")
    resumed = mamlcli.train("linear-regression", *TINY, run_dir=tmp_path / "run", resume=True)
    assert resumed.report == first.report
    replaced = mamlcli.train("linear-regression", *TINY, "seed=3", run_dir=tmp_path / "run", force=True)
    assert replaced.recipe.seed == 3
    with pytest.raises(MamlError, match="expected run_dir with resume=True"):
        mamlcli.train("linear-regression", resume=True)


def test_mistakes_in_a_recipe_come_all_at_once_and_name_the_call():
    with pytest.raises(RecipeError) as caught:
        mamlcli.train("sinusoid", {"inner.stesp": 2}, "model.depth=0", "seed")
    assert len(caught.value.problems) == 3
    assert all(problem.startswith("mamlcli.train: ") for problem in caught.value.problems)
    assert "Did you mean 'steps'?" in str(caught.value)
    with pytest.raises(MamlError, match="expected a number, text"):
        mamlcli.train("sinusoid", {"seed": object()})
    with pytest.raises(MamlError, match="overrides like"):
        mamlcli.train("sinusoid", 3)


def test_load_says_what_is_not_a_run(tmp_path, sinusoid):
    with pytest.raises(RunError, match="expected a run directory, got no such folder"):
        mamlcli.load(tmp_path / "nothing")
    with pytest.raises(DeviceError):
        mamlcli.load(sinusoid.path, device="cuda:99")


def test_models_that_ship_are_loaded_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = mamlcli.load(GLYPHS)
    assert repr(model) == f"Run('{GLYPHS}', glyphs, maml, best by meta-validation, iteration 300)"
    assert model.report["run"] == GLYPHS
    x = torch.rand(5, *model.input_shape, generator=torch.Generator().manual_seed(0))
    adapted = mamlcli.adapt(GLYPHS, x, torch.arange(5))
    assert adapted(x).argmax(dim=1).tolist() == list(range(5))
    assert mamlcli.predict(model, (x, torch.arange(5)), x).indices.tolist() == list(range(5))
    with pytest.raises(RunError, match=f"Did you mean '{GLYPHS}'"):
        mamlcli.load("glyphs-5way-1shot@2")
    with pytest.raises(RunError, match="no training can go on from there"):
        mamlcli.train(run_dir=GLYPHS, resume=True)


def test_module_is_the_learned_initialisation_and_a_copy(sinusoid):
    x = torch.linspace(-5, 5, 7)[:, None]
    module = sinusoid.module
    assert isinstance(module, torch.nn.Module)
    assert torch.equal(module(x), functional_call(module, dict(sinusoid.params), (x,)))
    with torch.no_grad():
        next(module.parameters()).add_(1)
    assert not torch.equal(module(x), sinusoid.module(x))


def test_adapt_is_gradient_descent_on_the_support_loss(sinusoid):
    """Against steps written out with torch.autograd."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(10, 1, generator=generator) * 10 - 5
    y = 2 * torch.sin(x - 1)
    by_hand = sinusoid.module
    for _ in range(3):
        loss = 0.5 * (by_hand(x) - y).square().sum(dim=-1).mean()
        gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
        with torch.no_grad():
            for value, gradient in zip(by_hand.parameters(), gradients, strict=True):
                value -= 0.02 * gradient
    adapted = mamlcli.adapt(sinusoid, x, y.squeeze(-1))  # [n] is as good as [n, 1]
    torch.testing.assert_close(adapted(x), by_hand(x), rtol=1e-5, atol=1e-6)  # float32, other summation order
    more = mamlcli.adapt(sinusoid.path, x, y, steps=20)
    assert functional.mse_loss(more(x), y) < functional.mse_loss(adapted(x), y)


@pytest.mark.parametrize(
    "keys",
    [
        ("inner.transform=kfo",),
        ("inner.transform.name=meta-sgd", "inner.transform.adapted=true"),
        ("inner.algorithm=anil",),
        ("inner.algorithm=anil", "inner.joint_features=true", "inner.adapt=[head.0.weight]"),
        ("inner.memory=constant",),
    ],
    ids=" ".join,
)
def test_adapt_gives_the_scores_of_the_runs_own_evaluation(tmp_path, keys):
    """On the meta-test tasks, loss after `adapt` as `mamlcli adapt` has it, whatever the inner loop."""
    run = mamlcli.train("sinusoid", *SINUSOID, *keys, run_dir=tmp_path / "run")
    from mamlcli.runs.folder import RunDirectory
    from mamlcli.tasks.episodes import sample_tasks
    from mamlcli.training.experiment import build

    evaluation, _ = adapt_run(RunDirectory.open(run.path), num_tasks=3)
    distribution = build(run.recipe, splits=("test",)).distributions["test"]
    episode = sample_tasks(distribution, seed=run.recipe.evaluation.seed, split="test", iteration=0, indices=range(3))
    for task in range(3):
        support_x, support_y, query_x, query_y = (part[task] for part in episode.data())
        outputs = mamlcli.adapt(run, support_x, support_y)(query_x).detach()
        loss = float(0.5 * (outputs - query_y).square().mean())
        assert loss == pytest.approx(evaluation.scores[task][-1][2], rel=1e-4)  # float32


def test_adapt_classifies_images_of_either_type(photos):
    run, _ = photos
    images = torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    network = mamlcli.adapt(run, images, labels, steps=2)
    assert network(images / 255).shape == (6, 3)
    assert torch.equal(network(images / 255), mamlcli.adapt(run, images / 255, labels, steps=2)(images / 255))
    assert not network.training


def test_run_whose_outputs_start_the_same_takes_any_number_of_classes(photos, tmp_path):
    _, data = photos
    keys = {"tasks.path": str(data), "tasks.ways": 3, "evaluation.split": "train", "tasks.image_size": 12}
    run = mamlcli.train("folder", *TINY_IMAGES, keys, "inner.head=zero", run_dir=tmp_path / "run")
    assert not run.params["head.0.weight"].any()  # as every task starts
    loaded = mamlcli.load(tmp_path / "run")
    names = [f"own{index}" for index in range(7)]
    class_folders(tmp_path / "support", names)
    assert mamlcli.predict(loaded, tmp_path / "support", tmp_path / "support").probabilities.shape == (21, 7)
    images = torch.rand(7, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    assert mamlcli.adapt(loaded, images, torch.arange(7))(images).shape == (7, 7)


def test_predict_of_folders_is_mamlcli_adapt_support_query(photos, tmp_path):
    run, data = photos
    support = class_folders(tmp_path / "support", ["a", "b"], num_images=2)
    found = mamlcli.predict(run, support, support / "a")
    assert found.classes == ("a", "b")
    assert found.probabilities.shape == (2, 2)
    assert found.report["inner_steps"] == 1
    assert found.names == [found.classes[index] for index in found.indices]
    assert mamlcli.predict(run.path, str(support), str(support), invert="no").report["accuracy"]["num_images"] == 4
    assert data.is_dir()


def test_predict_of_tensors_is_that_of_folders_with_the_same_images(photos, tmp_path):
    """Two routes to one result: files read by the run's preprocessing, and the same pixels as tensors."""
    from mamlcli.tasks.images.reading import read_image

    run, _ = photos
    support = class_folders(tmp_path / "support", ["a", "b", "c"], num_images=2)
    query = class_folders(tmp_path / "query", ["a", "b", "c"], num_images=1, side=30)
    by_folder = mamlcli.predict(run, support, query, invert="no")

    def pixels(folder):
        paths = sorted(folder.rglob("*.png"))
        arrays = [read_image(path, size=12, channels=3, invert=False) for path in paths]
        return torch.stack([torch.tensor(array).permute(2, 0, 1) for array in arrays])

    by_tensor = mamlcli.predict(run, (pixels(support), torch.tensor([0, 0, 1, 1, 2, 2])), pixels(query))
    assert by_tensor.classes == ("0", "1", "2")
    assert by_tensor.report is None
    torch.testing.assert_close(by_tensor.probabilities, by_folder.probabilities, rtol=1e-5, atol=1e-6)


# Studies ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of depth, its folder, and the ends of its cells."""
    folder, ends = tmp_path_factory.mktemp("study") / "depth", []
    words = (*TINY, {"tasks.dimension": 3})
    result = mamlcli.sweep(
        "linear-regression", *words, depths=[1, 2], seeds=2, jobs=1, folder=folder, on_end=ends.append
    )
    return result, folder, ends


def test_sweep_trains_every_value_with_every_seed_as_the_command_does(study):
    result, folder, ends = study
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(result.to_json()))
    assert [cell.value for cell in result.cells] == [1, 2]
    assert sorted(path.name for path in (folder / "cells").iterdir()) == [
        f"depth-{depth}-seed-{seed}" for depth in (1, 2) for seed in (0, 1)
    ]
    assert [end.status for end in ends if end.num_total == len(ends)] == ["done"] * len(ends)


def test_sweep_finishes_a_study_that_is_there_without_training_again(study):
    result, folder, _ = study
    before, ends = torch.get_num_threads(), []
    words = (*TINY, {"tasks.dimension": 3})
    again = mamlcli.sweep(
        "linear-regression", *words, depths=[1, 2], seeds=2, jobs=1, folder=folder, on_end=ends.append
    )
    assert {end.status for end in ends} == {"skipped"}
    assert again.to_json() == result.to_json()
    assert torch.get_num_threads() == before


def test_sweep_needs_one_axis_and_leaves_its_key_to_the_study(tmp_path):
    with pytest.raises(MamlError, match=r"values of depths, layers or optimizers, .* got none of them"):
        mamlcli.sweep("sinusoid", folder=tmp_path / "s")
    with pytest.raises(MamlError, match="got depths and layers"):
        mamlcli.sweep("sinusoid", depths=[1], layers=[0], folder=tmp_path / "s")
    with pytest.raises(RecipeError, match="Did you mean 'kfo'"):
        mamlcli.sweep("sinusoid", optimizers=["kfoo"], folder=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_reproduce_says_which_scales_there_are(tmp_path):
    with pytest.raises(MamlError, match="expected one of smoke, laptop, evening, paper, got 'lap'"):
        mamlcli.reproduce("lap", folder=tmp_path / "r")
    assert not (tmp_path / "r").exists()


# Mistakes -----------------------------------------------------------------------------------------------------------


def test_wrong_tensors_are_named(sinusoid, photos):
    x, y = torch.zeros(4, 1), torch.zeros(4, 1)
    with pytest.raises(MamlError, match=r"support_x: expected a tensor \[n, 1\], got torch.float32 \[4, 2\]"):
        mamlcli.adapt(sinusoid, torch.zeros(4, 2), y)
    with pytest.raises(MamlError, match="support_x: expected float"):
        mamlcli.adapt(sinusoid, x.long(), y)
    with pytest.raises(MamlError, match=r"support_x: expected a tensor.*got 'list'"):
        mamlcli.adapt(sinusoid, [1.0], y)
    with pytest.raises(MamlError, match=r"support_y: expected float targets \[4\]"):
        mamlcli.adapt(sinusoid, x, torch.zeros(3))
    with pytest.raises(MamlError, match="steps: expected an integer >= 1, got 0"):
        mamlcli.adapt(sinusoid, x, y, steps=0)
    with pytest.raises(MamlError, match="an inner loop that diverged"):
        mamlcli.adapt(sinusoid, x + 1e20, y)
    run, data = photos
    images = torch.zeros(3, 3, 12, 12)
    with pytest.raises(MamlError, match=r"support_y: expected int64 classes \[3\], got torch.float32 \[3\]"):
        mamlcli.adapt(run, images, torch.zeros(3))
    with pytest.raises(MamlError, match="support_y: expected classes from 0 to 2"):
        mamlcli.adapt(run, images, torch.tensor([0, 1, 3]))
    with pytest.raises(MamlError, match="got none of class 1"):
        mamlcli.predict(run, (images, torch.tensor([0, 2, 2])), images)
    with pytest.raises(MamlError, match="got class 0 alone"):
        mamlcli.predict(run, (images, torch.tensor([0, 0, 0])), images)
    with pytest.raises(MamlError, match="query: expected a tensor"):
        mamlcli.predict(run, (images, torch.tensor([0, 1, 2])), images[0])
    with pytest.raises(MamlError, match="both as paths, or both as tensors"):
        mamlcli.predict(run, data, images)
    with pytest.raises(MamlError, match="invert and frame for folders"):
        mamlcli.predict(run, (images, torch.tensor([0, 1, 2])), images, frame="ink")
    with pytest.raises(MamlError, match="expected a run that classifies"):
        mamlcli.predict(sinusoid, (x, y), x)


def test_runs_of_earlier_versions_take_their_shapes_from_the_data(sinusoid, tmp_path):
    import shutil

    shutil.copytree(sinusoid.path, tmp_path / "old")
    manifest = json.loads((tmp_path / "old" / "manifest.json").read_text())
    del manifest["network"]
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest))
    old = mamlcli.load(tmp_path / "old")
    assert (old.input_shape, old.num_outputs) == (sinusoid.input_shape, sinusoid.num_outputs) == ((1,), 1)
    assert replace(old, path=sinusoid.path).weights == sinusoid.weights


def test_model_without_its_version_and_no_path_at_all_lead_to_the_models():
    with pytest.raises(mamlcli.MamlError, match=r"Did you mean 'glyphs-5way-1shot@1'\? Run: mamlcli models ls"):
        mamlcli.load("glyphs-5way-1shot")
    with pytest.raises(mamlcli.MamlError, match=r"mamlcli\.load: expected a run or model, got None.*models ls"):
        mamlcli.load(None)
