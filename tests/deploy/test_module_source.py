"""The exported Python file: it computes what the run computes, without mamlcli."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
import torch

from mamlcli.deploy.module_source import module_source
from mamlcli.deploy.weights import export_weights, load_module
from mamlcli.engine.networks import apply_network
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.entry import read_run
from mamlcli.runs.folder import RunDirectory
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.training.experiment import build, build_without_data
from mamlcli.training.trained import best_weights
from tests.helpers.running import TINY_IMAGES, train_tiny


def outputs_of_run(run, x):
    """Return apply_network's outputs with the run's scored weights."""
    opened = read_run(run)
    experiment = build(opened.recipe, splits=("test",))
    meta, _ = best_weights(RunDirectory(run), experiment)
    return apply_network(experiment.network, meta.model, x)


# One process for all of them: torch takes seconds to load.
STANDALONE = """
import importlib.util, sys, torch
from pathlib import Path
torch.set_num_threads(1)  # more of them add in another order
for folder in sorted(Path(sys.argv[1]).iterdir()):
    spec = importlib.util.spec_from_file_location("module", folder / "module.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x, y = torch.load(folder / "pair.pt")
    network = module.load()
    error = (network(x) - y).abs().max() / y.abs().max().clamp(min=1)
    assert isinstance(network, torch.nn.Module)
    assert error < 1e-6, (folder, error)
assert not [name for name in sys.modules if name.startswith("mamlcli")]
"""


IMAGE_MODELS = {
    "batch": ("model.norm=batch", "model.depth=2", "model.stride=2"),
    "group": ("model.norm=group", "model.pool=2", "model.head=flatten", "model.linear_layers=1"),
    "layer": ("model.norm=layer", "model.width=4"),
    "none": ("model.norm=none",),
    "mlp": ("model={kind: mlp, depth: 2, width: 5, activation: tanh}",),
    "linear": ("model={kind: linear, depth: 2, bias: false}",),
}


@pytest.mark.usefixtures("one_thread", "with_glyphs")
def test_both_forms_of_a_module_give_the_outputs_of_the_network(trained, tmp_path):
    runs = {name: trained / name for name in ("one", "line", "sinusoid", "kfo")}
    for name, words in IMAGE_MODELS.items():
        is_whole_model = words[0].startswith("model={")
        common = [word for word in TINY_IMAGES if not (is_whole_model and word.startswith("model."))]
        words = ("tasks.shots=1", *common, *words)
        runs[name] = train_tiny(tmp_path / "runs" / name, "glyphs-5way-1shot", *words).path
    for name, run in runs.items():
        out = tmp_path / "out" / name
        export_weights(read_run(run), out)
        module = load_module(out)
        dtype = next(module.parameters()).dtype
        x = torch.rand(7, *module.input_shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
        expected = outputs_of_run(run, x).detach()
        assert isinstance(module, torch.nn.Module)
        assert torch.equal(module(x), expected)
        torch.save((x, expected), out / "pair.pt")
    command = [sys.executable, "-c", STANDALONE, str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["one", "sinusoid", "zero head"])
def test_adapt_of_the_written_module_reaches_the_scores_of_the_run(trained, tmp_path, name):
    if name == "zero head":
        trained = train_tiny(tmp_path / name, "logistic", "model={kind: mlp, width: 4}", "inner.head=zero").path.parent
    run = read_run(trained / name)
    export_weights(run, tmp_path / "out")
    space: dict = {"__file__": str(tmp_path / "out" / "module.py"), "__name__": "module"}
    exec(compile((tmp_path / "out" / "module.py").read_text(), "module.py", "exec"), space)
    episode = sample_tasks(
        build(run.recipe, splits=("test",)).distributions["test"], seed=0, split="test", iteration=0, indices=range(3)
    )
    scores = [line.split(",") for line in (trained / name / "tasks.csv").read_text().splitlines()[1:]]
    last = [float(row[4]) for row in scores if int(row[1]) == run.report.protocol.inner_steps]
    for task in range(3):
        support_x, support_y, query_x, query_y = (part[task] for part in episode.data())
        network = space["load"]()
        params = space["adapt"](network, support_x, support_y, steps=run.report.protocol.inner_steps)
        outputs = torch.func.functional_call(network, params, (query_x,))
        if run.recipe.is_classification:
            loss = torch.nn.functional.cross_entropy(outputs, query_y)
        else:
            loss = 0.5 * (outputs - query_y).square().mean()
        assert float(loss) == pytest.approx(last[task], rel=1e-4)  # float32, sums in another order


def source_of(recipe, input_shape, num_outputs, *keys):
    _, loaded = load_recipe(recipe, ("execution.device=cpu", "execution.threads=1", *keys))
    return module_source(build_without_data(loaded, input_shape=input_shape, num_outputs=num_outputs))


def classes_in(source):
    return [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]


def test_the_file_holds_the_layers_of_the_network_and_no_others():
    images, curves = source_of("glyphs-5way-1shot", (1, 28, 28), 5), source_of("sinusoid", (1,), 1)
    assert classes_in(images) == ["BatchStatisticsNorm", "ConvBlock", "GlobalMean", "Network"]
    assert classes_in(curves) == ["GlobalMean", "Network"]
    assert "@property" not in images


def test_adapt_is_there_where_plain_gradient_steps_are_what_was_trained():
    keys = ("inner.algorithm=anil", "inner.joint_features=true")
    assert "def adapt(" in source_of("logistic", (100,), 2)
    assert "def adapt(" not in source_of("logistic", (100,), 2, "inner.transform=kfo")
    assert "def adapt(" not in source_of("glyphs-5way-1shot", (1, 28, 28), 5, *keys)


def test_adapt_moves_what_the_inner_loop_moves():
    source = source_of("glyphs-5way-1shot", (1, 28, 28), 5, "inner.algorithm=anil")
    assert "ADAPTED = ('head.0.weight', 'head.0.bias')\n" in source
