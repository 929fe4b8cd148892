"""Run folders and exported weights of strangers."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamlcli.deploy.weights import export_weights, load_module
from mamlcli.runs.entry import read_run
from tests.fuzz.bounds import bounded, run, tries
from tests.fuzz.inputs import changed, values
from tests.helpers.running import train_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, its exported weights, and files beside them that nothing may touch."""
    base = tmp_path_factory.mktemp("stranger")
    os.environ["MAMLCLI_DATA"] = str(base / "data")
    train_tiny(base / "good", "sinusoid")
    export_weights(read_run(base / "good"), base / "weights")
    (base / "beside").mkdir()
    (base / "beside" / "mine.txt").write_text("mine")
    return base


@st.composite
def changed_json(draw, data: bytes) -> bytes:
    """Return a JSON file with another value at some key, at the top or one below."""
    content = json.loads(data)
    below = [(key, name) for key, section in content.items() if isinstance(section, dict) for name in section]
    keys = [*((key,) for key in content), *below]
    *path, last = draw(st.sampled_from(keys))
    section = content
    for key in path:
        section = section[key]
    if draw(st.booleans()):
        section[last] = draw(values)
    else:
        del section[last]
    return json.dumps(content, default=str).encode("utf-8", "surrogatepass")


def files_of(path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file() and file.name != "lock")


def spoil(draw, folder, name: str) -> None:
    """Change one file of a folder, or put a pipe, a folder or a link in its place."""
    path = folder / name
    data, kind = path.read_bytes(), draw(st.sampled_from(("bytes", "json", "pipe", "folder", "link", "device", "gone")))
    if kind == "json" and name.endswith(".json"):
        path.write_bytes(draw(changed_json(data)))
    elif kind in ("bytes", "json"):
        path.write_bytes(draw(changed(data)))
    else:
        path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("link", "device"):
        path.symlink_to("/dev/zero" if kind == "device" else folder.parent / "beside" / "mine.txt")


def copied(source, target):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


@given(data=st.data())
@tries(60, 1000)
def test_weights_are_loaded_or_told_what_is_wrong(folder, data):
    spoiled = copied(folder / "weights", folder / "spoiled-weights")
    spoil(data.draw, spoiled, data.draw(st.sampled_from(("config.json", "model.safetensors"))))
    with bounded():
        load_module(spoiled)
    assert (folder / "beside" / "mine.txt").read_text() == "mine"


@given(data=st.data())
@tries(15, 1000)
def test_a_run_is_shown_or_told_what_is_wrong(folder, data):
    runs = folder / "runs"
    spoiled = copied(folder / "good", runs / "one")
    for _ in range(data.draw(st.integers(1, 2))):
        spoil(data.draw, spoiled, data.draw(st.sampled_from(files_of(spoiled))))
    before = sorted(os.listdir(folder))
    command = data.draw(st.sampled_from(("ls", "show", "compare", "export")))
    words = {
        "ls": ("ls", runs),
        "show": ("show", spoiled),
        "compare": ("compare", spoiled, folder / "good"),
        "export": ("export", spoiled, "--json"),
    }[command]
    run("runs", *words)
    assert sorted(os.listdir(folder)) == before
    assert os.listdir(folder / "beside") == ["mine.txt"]
    assert (folder / "beside" / "mine.txt").read_text() == "mine"
