"""The models in the package: each scores as it did, says nothing of a machine, and is in what is built."""

from __future__ import annotations

import configparser
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import mamlcli
from mamlcli.common.errors import DataError
from mamlcli.deploy.noise import NOISE_OUTPUTS, noise_outputs
from mamlcli.deploy.shipping import MANIFEST_KEYS, MAX_BYTES, private_words
from mamlcli.engine.objective import MetaParams
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.models import folder_bytes, model_folder, models_dir, shipped_models
from mamlcli.training.rescoring import adapt_run
from mamlcli.training.trained import TrainedRun, weights_checkpoint
from tests.helpers.models import GLYPHS, files_of, opened, use_models_dir

EVERY_MODEL = pytest.mark.parametrize("name", shipped_models())

# Packs of the person who runs the tests; the tests' own folders are empty.
USERS_DATA = os.environ.get("MAMLCLI_DATA")

NUM_TASKS = 10


# Largest difference of the outputs on noise, relative to the largest of them. Other processors and numbers of threads
# round differently: at most 1.5e-6 was seen. A weight tensor that is scaled by 1.02 made 2e-3 or more.
MAX_NOISE_ERROR = 5e-5


def noise_error(model: Path, run: TrainedRun) -> float:
    """Return the largest difference of a run's outputs on noise from those stored with a model."""
    stored = np.load(model / NOISE_OUTPUTS)
    return float(np.abs(noise_outputs(run) - stored).max() / np.abs(stored).max())


@EVERY_MODEL
@pytest.mark.usefixtures("one_thread")
def test_a_model_has_the_outputs_on_noise_that_it_had_and_no_others(name):
    model, run = model_folder(name), opened(name)
    assert noise_error(model, run) < MAX_NOISE_ERROR
    flat = run.meta.flat()
    weights = [key for key in flat if key.startswith("model/") and key.endswith(".weight")]
    for scaled in (flat.keys(), *({key} for key in weights)):
        changed = {key: 1.02 * value if key in scaled else value for key, value in flat.items()}
        assert noise_error(model, replace(run, meta=MetaParams.from_flat(changed))) > MAX_NOISE_ERROR, scaled


def check_scores(name: str) -> None:
    """Require a model to score on its first tasks as it did when it was shipped.

    Sums in another order round differently, which inner steps make larger: losses may differ by 1 % of the largest,
    accuracies by the flip of a few images. Wrong weights or other tasks differ by far more.
    """
    run = RunDirectory.open(Path(name))
    report, stored = run.read_report(), run.read_scores()[:NUM_TASKS, -1]
    protocol = report.protocol
    evaluation, again = adapt_run(
        run, device="cpu", num_tasks=NUM_TASKS, num_steps=protocol.inner_steps, split=protocol.split
    )
    assert again.weights == report.weights
    scores = evaluation.scores[:, -1]
    losses, accuracies = [0, 2], [1, 3]
    np.testing.assert_allclose(scores[:, losses], stored[:, losses], rtol=0.01, atol=0.01 * stored[:, 2].max())
    np.testing.assert_allclose(scores[:, accuracies].mean(axis=0), stored[:, accuracies].mean(axis=0), atol=0.01)


@EVERY_MODEL
@pytest.mark.usefixtures("with_glyphs", "one_thread")
def test_a_model_scores_as_it_did(name, monkeypatch):
    if USERS_DATA:
        monkeypatch.setenv("MAMLCLI_DATA", USERS_DATA)
    try:
        check_scores(name)
    except DataError as error:
        assert name != GLYPHS, "glyphs need no data"
        pytest.skip(f"{name}: {error}")


@pytest.mark.usefixtures("with_glyphs", "one_thread")
def test_weights_that_are_a_little_off_would_be_found(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    shutil.copytree(model_folder(GLYPHS), folder / GLYPHS)
    use_models_dir(monkeypatch, folder)
    file = folder / GLYPHS / "checkpoints" / "best.safetensors"
    _, tensors, primitives = weights_checkpoint(RunDirectory.open(Path(GLYPHS)))
    save_file({key: 1.02 * value for key, value in tensors.items()}, file, {"mamlcli": json.dumps(primitives)})
    with pytest.raises(AssertionError):
        check_scores(GLYPHS)


@EVERY_MODEL
def test_a_model_is_complete_and_its_result_is_of_its_weights(name):
    run = mamlcli.load(name, device="cpu")
    assert run.report is not None
    assert (run.report["run"], run.report["weights"]) == (name, run.weights)
    assert all(value.dtype == torch.float32 for value in (*run.params.values(), *run.transform_params.values()))
    assert (model_folder(name) / "README.md").read_text().splitlines().count(f"# {name}") == 1


@EVERY_MODEL
def test_a_model_says_nothing_of_a_machine_or_a_person(name):
    folder = model_folder(name)
    for path, content in files_of(folder).items():
        if path.endswith((".yaml", ".json", ".md")):
            assert not private_words(content.decode()), path
    assert set(json.loads((folder / "manifest.json").read_text())) <= set(MANIFEST_KEYS)
    [weights] = (folder / "checkpoints").iterdir()
    assert not [key for key in load_file(weights) if not key.startswith(("model/", "transform/"))]


def test_all_models_together_are_small():
    assert sum(map(folder_bytes, shipped_models().values())) <= MAX_BYTES


def test_everything_of_a_model_is_in_what_is_built():
    config = configparser.ConfigParser()
    config.read(models_dir().parents[2] / "setup.cfg")
    patterns = config["options.package_data"]["mamlcli.deploy"].split(", ")
    deploy = models_dir().parent
    packed = {path for pattern in patterns for path in deploy.glob(pattern) if path.is_file()}
    assert packed == {path for path in models_dir().rglob("*") if path.is_file()}
    assert packed
