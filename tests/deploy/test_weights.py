"""Exported weights: what is in the folder, and that it is read back or refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mamlcli.common.errors import RunError
from mamlcli.deploy.weights import export_weights, load_module
from mamlcli.runs.entry import read_run
from tests.helpers.running import TINY_IMAGES, train_tiny


def test_files_hold_all_parameters_and_the_transforms_by_themselves(trained, tmp_path):
    export_weights(read_run(trained / "kfo"), tmp_path / "out")
    saved = load_file(trained / "kfo" / "checkpoints" / "last.safetensors")
    model, transform = (load_file(tmp_path / "out" / f"{part}.safetensors") for part in ("model", "transform"))
    for part, tensors in (("model", model), ("transform", transform)):
        expected = {n.removeprefix(f"{part}/"): v for n, v in saved.items() if n.startswith(f"{part}/")}
        assert tensors.keys() == expected.keys()
        assert all(value.equal(expected[key]) for key, value in tensors.items())
    assert "adapt" not in (tmp_path / "out" / "module.py").read_text().replace("ANIL adapts", "")


def test_config_rebuilds_the_network_and_names_no_place(trained, tmp_path, with_glyphs):
    run = train_tiny(tmp_path / "run", "glyphs-5way-1shot", "tasks.shots=1", *TINY_IMAGES)
    manifest = run.manifest
    export_weights(read_run(run.path), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["input_shape"], config["num_outputs"]) == (manifest["network"]["input_shape"], 5)
    assert config["model"]["kind"] == "cnn"
    assert config["inner"]["adapted"] == list(load_module(tmp_path / "out").parameter_names())
    assert config["preprocessing"]["inputs"].endswith("scaled to [0, 1]")
    for name in ("config.json", "README.md", "module.py"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()


def test_a_run_that_did_not_note_its_shapes_is_exported_from_its_data(trained, tmp_path):
    run = shutil.copytree(trained / "one", tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["network"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    export_weights(read_run(run), tmp_path / "out")
    assert load_module(tmp_path / "out").input_shape == (20,)


def test_a_folder_with_files_is_kept_unless_forced(trained, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="expected a new or empty folder, got a folder with files in it"):
        export_weights(read_run(trained / "one"), tmp_path / "out")
    export_weights(read_run(trained / "kfo"), tmp_path / "out", is_forced=True)
    export_weights(read_run(trained / "one"), tmp_path / "out", is_forced=True)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "out" / "transform.safetensors").exists()  # of the run before
    (tmp_path / "file").write_text("")
    for is_forced in (False, True):
        with pytest.raises(RunError):
            export_weights(read_run(trained / "one"), tmp_path / "file", is_forced=is_forced)


@pytest.mark.parametrize("kind", ["no folder", "no config", "cut config", "no weights", "cut weights", "other weights"])
def test_a_damaged_export_is_an_error(trained, tmp_path, kind):
    out: Path = tmp_path / "out"
    if kind != "no folder":
        export_weights(read_run(trained / "one"), out)
    if kind == "no config":
        (out / "config.json").unlink()
    if kind == "cut config":
        (out / "config.json").write_text('{"recipe": {}}')
    if kind == "no weights":
        (out / "model.safetensors").unlink()
    if kind == "cut weights":
        (out / "model.safetensors").write_bytes((out / "model.safetensors").read_bytes()[:40])
    if kind == "other weights":
        export_weights(read_run(trained / "two"), tmp_path / "two")
        shutil.copy(tmp_path / "two" / "model.safetensors", out)
    with pytest.raises(RunError, match="expected a folder that mamlcli runs export --weights wrote"):
        load_module(out)


HOSTILE = {
    "config.json": [
        b"[" * 100_000,
        b"1" * 5000,
        b"[]",
        b'{"recipe": 5, "input_shape": [1], "num_outputs": 1}',
        b"\xff",
        b" " * 2_000_000,
    ],
    "model.safetensors": [b"", b"\xff" * 8, (10**9).to_bytes(8, "little") + b"{}"],
}


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, parts in HOSTILE.items() for data in parts])
def test_files_of_strangers_are_an_error_in_a_few_words(trained, tmp_path, name, data):
    export_weights(read_run(trained / "one"), tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(data)
    with pytest.raises(RunError) as caught:
        load_module(tmp_path / "out")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_in_the_place_of_a_file_is_an_error_at_once(trained, tmp_path, name):
    export_weights(read_run(trained / "one"), tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    os.mkfifo(tmp_path / "out" / name)
    with pytest.raises(RunError, match="got a pipe"):
        load_module(tmp_path / "out")


@pytest.mark.parametrize("shape", [[10**9], [10**12], [-1], ["a"], 5])
def test_a_config_of_a_huge_network_takes_no_memory(trained, tmp_path, shape):
    export_weights(read_run(trained / "one"), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps(config | {"input_shape": shape}))
    with pytest.raises(RunError):
        load_module(tmp_path / "out")


@pytest.mark.usefixtures("with_glyphs")
@pytest.mark.parametrize("head", ["zero", "shared"])
def test_an_output_layer_that_is_not_learned_in_full_is_exported_as_tasks_start_with_it(tmp_path, head):
    words = ("tasks.shots=1", *TINY_IMAGES, f"inner.head={head}")
    run = train_tiny(tmp_path / "run", "glyphs-5way-1shot", *words)
    export_weights(read_run(run.path), tmp_path / "out")
    weight = load_module(tmp_path / "out").state_dict()["head.0.weight"]
    stored = load_file(run.path / "checkpoints" / "last.safetensors")
    if head == "zero":
        assert "model/head.0.weight" not in stored
        assert not weight.any()
    else:
        assert weight.equal(stored["model/head.0.weight"].expand(5, -1))
    card = (tmp_path / "out" / "README.md").read_text()
    assert {"zero": "output layer is at zero", "shared": "one learned row for all classes"}[head] in card
