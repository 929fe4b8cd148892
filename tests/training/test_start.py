"""The start of a run: new, resumed, or in the place of another; nothing on disk changes before it can begin."""

from __future__ import annotations

import json

import pytest

from mamlcli.common.errors import DataError, MamlError, RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.training.planned import Progress
from mamlcli.training.start import Start, default_path, override_words, start_of
from tests.helpers.running import TINY

pytestmark = pytest.mark.usefixtures("one_thread")


def start(path, *overrides, **how):
    name, recipe = load_recipe("logistic", (*TINY, *overrides))
    return Start(name, recipe, path, **how)


def train(start):
    assert start.finished() is None
    return start.train(argv=["mamlcli", "train"], progress=Progress())


def manifest_of(run):
    return json.loads((run / "manifest.json").read_text())


@pytest.fixture
def run(tmp_path):
    train(start(tmp_path / "run"))
    return tmp_path / "run"


def test_new_run_is_trained_and_scored(tmp_path):
    result = train(start(tmp_path / "run"))
    assert result.to_json() == json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["argv"] == ["mamlcli", "train"]


def test_what_this_machine_cannot_do_leaves_no_folder(tmp_path):
    with pytest.raises(MamlError, match=r"execution\.cuda_graphs: expected auto or off on cpu"):
        train(start(tmp_path / "run", "execution.device=cpu", "execution.cuda_graphs=on"))
    assert list(tmp_path.iterdir()) == []


def test_new_run_takes_no_folder_with_files(run):
    with pytest.raises(RunError, match="expected a new or empty folder"):
        start(run).finished()


def test_resumed_run_that_is_done_is_its_result(run):
    result = start(run, is_resumed=True).finished()
    assert result.to_json() == json.loads((run / "evaluation.json").read_text())


def test_resumed_run_must_be_of_the_same_recipe(run, tmp_path):
    with pytest.raises(RunError, match="expected a run of the same recipe"):
        start(run, "seed=3", is_resumed=True).finished()
    with pytest.raises(RunError, match="expected a run directory"):
        start(tmp_path / "none", is_resumed=True).finished()


def test_run_that_goes_on_has_its_own_recipe_with_changes(run):
    (run / "manifest.json").write_text(json.dumps({**manifest_of(run), "status": "interrupted"}))
    words = ["execution.path=loop", "execution.threads=2", "execution.worker_timeout=9"]
    start = start_of(None, words, run, is_resumed=True)
    assert start.recipe.outer.tasks == 2
    keys = [word.partition("=")[0] for word in words]
    assert [line.partition(":")[0] for line in start.notes()] == keys
    train(start)
    manifest = manifest_of(run)
    assert (manifest["execution"]["path"], manifest["execution"]["threads"]) == ("loop", 2)
    assert [change["key"] for change in manifest["changes"]] == keys
    assert "path: loop" in (run / "recipe.yaml").read_text()


def test_run_that_goes_on_as_before_is_computed_as_recorded(run):
    recorded = {**manifest_of(run)["execution"], "path": "batched", "chunk": 1}
    (run / "manifest.json").write_text(json.dumps({**manifest_of(run), "status": "interrupted", "execution": recorded}))
    train(start_of(None, [], run, is_resumed=True))
    manifest = manifest_of(run)
    assert manifest["execution"] == recorded
    assert manifest["changes"] == []


def test_run_that_goes_on_starts_from_no_other(run):
    with pytest.raises(RunError, match="either a run that goes on or one to start from, got both"):
        start_of(None, [], run, run, is_resumed=True)


def test_run_in_the_place_of_a_recipe_goes_on_or_is_told_what_can_be_done(run):
    assert start_of(str(run), ["execution.chunk=1"], is_resumed=True).path == run
    with pytest.raises(RunError, match=r"expected a recipe, got a run\. To go on .*--resume .*: mamlcli train --from"):
        start_of(str(run), [])


def test_name_below_runs_is_enough_in_every_place_of_a_run(tmp_path, monkeypatch):
    train(start(tmp_path / "runs" / "logistic-1"))
    monkeypatch.chdir(tmp_path)
    for resumed in (start_of("logistic-1", (), is_resumed=True), start_of(None, (), "logistic-1", is_resumed=True)):
        assert resumed.path.resolve() == tmp_path / "runs" / "logistic-1"
        assert resumed.finished() is not None
    assert start_of(None, (), source="logistic-1").source.path.resolve() == tmp_path / "runs" / "logistic-1"
    with pytest.raises(RunError, match=r"^logistic-1: expected a recipe, got a run\. To go on .*--run-dir logistic-1;"):
        start_of("logistic-1", ())


def test_run_that_is_not_there_is_answered_with_the_nearest_run_and_not_with_a_recipe(tmp_path, monkeypatch):
    train(start(tmp_path / "runs" / "logistic-1"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"^logistic-7: expected a run.*Did you mean '(runs/)?logistic-1'"):
        start_of("logistic-7", (), is_resumed=True)


def test_cut_run_goes_on(run):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    train(start(run, is_resumed=True))
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["status"], manifest["resumed_from"]) == ("done", [2])


def test_forced_run_replaces_the_one_that_is_there(run):
    train(start(run, "seed=3", is_forced=True))
    assert json.loads((run / "manifest.json").read_text())["seed"] == 3


def test_run_that_cannot_be_built_leaves_the_one_that_is_there(run):
    name, recipe = load_recipe("folder", ["tasks.path=nowhere"])
    with pytest.raises(DataError):
        train(Start(name, recipe, run, is_forced=True))
    assert (run / "evaluation.json").is_file()


def test_runs_go_to_the_next_number_and_on_with_the_newest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"runs/logistic-\*: expected a run to resume, got none"):
        default_path("logistic", is_resumed=True)
    for number in (8, 9):
        (tmp_path / "runs" / f"logistic-{number}" / "checkpoints").mkdir(parents=True)
        (tmp_path / "runs" / f"logistic-{number}" / "recipe.yaml").touch()
    (tmp_path / "runs" / "logistic-8" / "manifest.json").touch()
    assert str(default_path("logistic", is_resumed=False)) == "runs/logistic-10"
    assert str(default_path("logistic", is_resumed=True)) == "runs/logistic-8"  # 9 was cut while it was made


def test_overrides_of_python_become_those_of_a_command_line(tmp_path):
    overrides = ["seed=1", {"inner.adapt": ["head*"], "validation.every": None, "tasks.path": tmp_path}]
    assert override_words(overrides, where="here") == [
        "seed=1",
        'inner.adapt=["head*"]',
        "validation.every=null",
        f'tasks.path="{tmp_path}"',
    ]


def test_overrides_that_no_recipe_can_have_are_refused():
    with pytest.raises(MamlError, match="here: expected overrides like"):
        override_words([3], where="here")
    with pytest.raises(MamlError, match="here: seed: expected a number, text"):
        override_words([{"seed": object()}], where="here")
