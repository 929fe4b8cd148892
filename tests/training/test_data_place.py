"""The data of a run are found from any folder, at the place that is named, and must be the same data."""

from __future__ import annotations

import shutil

import pytest
import yaml

from mamlcli.common.errors import DataError, RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.tasks.images.class_splits import published_classes
from mamlcli.training.data_place import located
from mamlcli.training.planned import Progress
from mamlcli.training.rescoring import adapt_run
from mamlcli.training.start import Start
from tests.helpers.running import TINY_IMAGES, noise_pack, report_of, train_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = [f"class{index}" for index in range(12)]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with packs, and a run in it that was trained on one of them, typed relative."""
    folder = tmp_path / "project"
    noise_pack(folder / "packs" / "pets.npz", NAMES)
    noise_pack(folder / "packs" / "other.npz", NAMES, seed=1)
    monkeypatch.chdir(folder)
    train_tiny(folder / "runs" / "folder-1", "folder", *TINY_IMAGES, "tasks.ways=2", "tasks.path=packs/pets.npz")
    return folder


def write_old_recipe(run):
    """Make a run as earlier versions wrote it: with the path as it was typed, and no word of the folder."""
    tree = yaml.safe_load((run / "recipe.yaml").read_text())
    tree["tasks"]["path"] = "packs/pets.npz"
    (run / "recipe.yaml").write_text(yaml.safe_dump(tree))
    RunDirectory(run).update_manifest({"typed_path": None, "typed_in": None, "data": {"digest": digest_of(run)}})


def digest_of(run):
    return RunDirectory(run).manifest.data_digest


def score(run, *changes):
    return adapt_run(RunDirectory.open(run), changes=changes)[1].to_json()["curve"]


def resume(run, *changes):
    """Let a run go on as if it had been cut."""
    RunDirectory.open(run).update_manifest({"status": "interrupted"})
    start = Start.of_resumed(run, changes)
    assert start.finished() is None
    return start.train(argv=["mamlcli"], progress=Progress()).to_json()["curve"]


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("use", [score, resume])
def test_data_are_found_from_any_folder(project, monkeypatch, tmp_path, is_old, use):
    run = project / "runs" / "folder-1"
    before = report_of(run)["curve"]
    if is_old:
        write_old_recipe(run)
    monkeypatch.chdir(tmp_path)
    assert use(run) == before


@pytest.mark.parametrize("is_old", [False, True])
def test_data_are_found_in_a_project_that_was_renamed(project, monkeypatch, tmp_path, is_old):
    before = report_of(project / "runs" / "folder-1")["curve"]
    if is_old:
        write_old_recipe(project / "runs" / "folder-1")
    project.rename(tmp_path / "renamed")
    monkeypatch.chdir(tmp_path)
    assert score(tmp_path / "renamed" / "runs" / "folder-1") == before


def moved(project, tmp_path):
    """Move the run and its data apart, and let other data be where they were; return the run and the data."""
    shutil.move(project / "runs" / "folder-1", tmp_path / "run")
    shutil.move(project / "packs" / "pets.npz", tmp_path / "animals.npz")
    return tmp_path / "run", tmp_path / "animals.npz"


def test_place_that_is_named_is_used_and_kept(project, tmp_path, monkeypatch):
    before = report_of(project / "runs" / "folder-1")["curve"]
    run, pack = moved(project, tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"nothing at .*pets\.npz\. Add tasks\.path=PLACE to the command"):
        score(run)
    assert score(run, "tasks.path=animals.npz") == before
    with pytest.raises(DataError, match=r"pets\.npz\. Add tasks\.path=PLACE"):
        resume(run)
    assert resume(run, "tasks.path=animals.npz") == before
    opened = RunDirectory.open(run)
    assert opened.recipe.tasks.path == str(pack)
    assert [change["key"] for change in opened.manifest.changes] == ["tasks.path"]
    assert score(run) == before


def test_place_that_was_typed_with_a_variable_is_where_it_leads_here(project, tmp_path, monkeypatch):
    monkeypatch.setenv("PACKS", str(project / "packs"))
    run = train_tiny(tmp_path / "run", "folder", *TINY_IMAGES, "tasks.ways=2", "tasks.path=$PACKS/pets.npz").path
    assert RunDirectory.open(run).recipe.tasks.path == f"{project}/packs/pets.npz"
    (project / "packs").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("PACKS", str(tmp_path / "elsewhere"))
    assert score(run) == report_of(run)["curve"]
    monkeypatch.delenv("PACKS")
    with pytest.raises(DataError, match="nothing at"):
        score(run)


def test_place_is_kept_by_resuming_a_run_that_is_done(project, tmp_path):
    run, pack = moved(project, tmp_path)
    start = Start.of_resumed(run, [f"tasks.path={pack}"])
    assert start.finished().to_json() == report_of(run)
    assert RunDirectory.open(run).recipe.tasks.path == str(pack)


def test_other_data_are_refused_in_words(project):
    run = project / "runs" / "folder-1"
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for use in (score, lambda run, *words: Start.of_resumed(run, words).finished()):
        with pytest.raises(RunError, match=r"expected the data it was trained on \(digest .*tasks\.path=PLACE"):
            use(run, "tasks.path=packs/other.npz")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files
    with pytest.raises(RunError, match="got other data"):
        resume(run, "tasks.path=packs/other.npz")
    with pytest.raises(DataError, match=r"tasks\.path: expected .* got nothing at"):
        score(run, "tasks.path=nowhere")


def test_data_that_changed_in_their_place_are_told_of(project):
    run = project / "runs" / "folder-1"
    shutil.copy(project / "packs" / "other.npz", project / "packs" / "pets.npz")
    _, report = adapt_run(RunDirectory.open(run))
    assert "Scored on other data" in report.notes[-1]


def test_pack_found_by_name_is_found_where_it_was(tmp_path, monkeypatch):
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"

    noise_pack(data / "cifar-fs.npz", [name for names in published_classes("cifar_fs").values() for name in names])
    run = train_tiny(tmp_path / "run", "cifar-fs-5way-5shot", *TINY_IMAGES, "tasks.shots=1").path
    monkeypatch.setenv("MAMLCLI_DATA", str(elsewhere))
    assert score(run) == report_of(run)["curve"]
    data.rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"run: expected the pack cifar-fs\.npz, got none in .*add tasks\.path=PLACE"):
        score(run)
    assert score(run, f"tasks.path={tmp_path}/moved/cifar-fs.npz") == report_of(run)["curve"]
    (tmp_path / "moved").rename(elsewhere)
    assert score(run) == report_of(run)["curve"]


def test_tasks_without_files_have_no_place(logistic):
    run = RunDirectory.open(logistic)
    assert located(run, run.recipe) == run.recipe
    glyphs = load_recipe("glyphs-5way-1shot")[1]
    assert located(run, glyphs) == glyphs
