"""Folders of new runs: taken by one process alone, also after one was killed; --force deletes runs and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mamlcli
from mamlcli.common.errors import RunError, TakenError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.lock import held_lock
from mamlcli.runs.place import check_free, check_idle, in_numbered_place

ROOT = Path(mamlcli.__file__).parents[1]
RECIPE = load_recipe("linear-regression")[1].without_reference()


def create(path, **how):
    return RunDirectory.create(path, RECIPE, "a", **how)


def numbered(base, name="a"):
    return in_numbered_place(base, name, create)


# Killed while it is made -------------------------------------------------------------------------------------------

# Makes a run in children that are killed at their first call that changes the disk, at their second, and so on.
KILL = """
import os, signal, sys
from pathlib import Path
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from tests.soak.points import patch_pathlib_of_3_10
base, is_forced = Path(sys.argv[1]), sys.argv[2] == "forced"
recipe = load_recipe("linear-regression")[1]
num_left = 0
def killing(function):
    def call(*args, **kwargs):
        global num_left
        num_left -= 1
        if num_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call
at, status = 0, signal.SIGKILL
while status == signal.SIGKILL:
    at += 1
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        continue
    path = base / f"run-{at}"
    if is_forced:
        (RunDirectory.create(path, recipe, "a").path / "metrics.jsonl").touch()
        (path / "checkpoints" / "last.safetensors").touch()
    num_left = at
    for name in ("mkdir", "open", "replace", "fsync", "unlink", "rmdir", "ftruncate", "pwrite"):
        setattr(os, name, killing(getattr(os, name)))
    patch_pathlib_of_3_10({name: getattr(os, name) for name in ("mkdir", "replace", "unlink", "rmdir")})
    RunDirectory.create(path, recipe, "a", is_forced=is_forced)
    os._exit(0)
sys.exit(status)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize("how", ["new", "forced"])
def test_making_a_run_that_is_killed_anywhere_goes_on_with_the_same_call(tmp_path, how):
    subprocess.run([sys.executable, "-c", KILL, str(tmp_path), how], cwd=ROOT, check=True)
    killed = [path for path in tmp_path.iterdir() if path.name.startswith("run-")]
    assert len(killed) >= 10
    for path in killed:
        is_made = how == "new" and (path / "manifest.json").is_file()
        run = RunDirectory.open(path) if is_made else create(path, is_forced=how == "forced")
        assert run.manifest["status"] == "created"
        assert run.recipe.tasks == RECIPE.tasks
        assert {inside.name for inside in path.iterdir()} == {"recipe.yaml", "manifest.json", "lock", "checkpoints"}


def filled(path):
    run = create(path)
    (run.path / "metrics.jsonl").write_text("{}\n")
    (run.path / "checkpoints" / "last.safetensors").write_text("x")
    return run


def test_resuming_a_run_that_was_cut_while_it_was_made_says_what_to_do(tmp_path):
    create(tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"cut while it was made\. Nothing was trained yet\. Give the command .* again"):
        RunDirectory.open(tmp_path / "run")


def test_number_of_a_run_that_was_cut_while_it_was_made_is_used_again(tmp_path):
    assert numbered(tmp_path).path.name == "a-1"
    cut = numbered(tmp_path)
    (cut.path / "manifest.json").unlink()
    assert numbered(tmp_path).path == cut.path
    assert numbered(tmp_path).path.name == "a-3"
    (tmp_path / "a-4").mkdir()  # maybe by a process that is about to take its lock
    assert numbered(tmp_path).path.name == "a-5"


def test_number_of_a_run_that_another_process_makes_is_not_used_again(tmp_path):
    (tmp_path / "a-1").mkdir()
    with held_lock(tmp_path / "a-1"):
        assert numbered(tmp_path).path.name == "a-2"


# Several at once ---------------------------------------------------------------------------------------------------

RACE = """
import sys
from pathlib import Path
from mamlcli.common.errors import TakenError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.place import in_numbered_place
recipe = load_recipe("linear-regression", [f"seed={sys.argv[2]}"])[1]
base = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
made = []
for number in range(20):
    try:
        RunDirectory.create(base / "one" / str(number), recipe, "a")
        made.append(number)
    except TakenError:
        pass
for _ in range(5):
    in_numbered_place(base / "many", "a", lambda path: RunDirectory.create(path, recipe, "a"))
print(*made)
"""


def test_processes_that_start_at_once_make_each_folder_once_and_all_get_a_number(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), str(seed)], **pipes) for seed in range(3)]
    assert [process.stdout.readline() for process in started] == ["ready\n"] * 3
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    made = [process.communicate()[0].split() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert sorted(int(number) for numbers in made for number in numbers) == list(range(20))
    for seed, numbers in enumerate(made):
        assert all(RunDirectory(tmp_path / "one" / number).recipe.seed == seed for number in numbers)
    seeds = [RunDirectory(path).recipe.seed for path in (tmp_path / "many").iterdir()]
    assert sorted(seeds) == sorted([0, 1, 2] * 5)
    assert {path.name for path in (tmp_path / "many").iterdir()} == {f"a-{number}" for number in range(1, 16)}


# --force -----------------------------------------------------------------------------------------------------------


def test_forced_run_replaces_a_run_and_keeps_the_folder(tmp_path):
    filled(tmp_path / "run")
    folder = (tmp_path / "run").stat().st_ino
    run = create(tmp_path / "run", is_forced=True)
    assert (tmp_path / "run").stat().st_ino == folder
    assert {path.name for path in run.path.iterdir()} == {"recipe.yaml", "manifest.json", "lock", "checkpoints"}
    assert list((run.path / "checkpoints").iterdir()) == []
    assert create(tmp_path / "new", is_forced=True).manifest["status"] == "created"


def test_forced_run_does_not_replace_a_run_at_work(tmp_path):
    run = filled(tmp_path / "run")
    with run.lock():
        with pytest.raises(TakenError, match="got one in use by process"):
            create(run.path, is_forced=True)
        with pytest.raises(TakenError, match="got one in use by process"):
            check_idle(run.path)
    assert (run.path / "metrics.jsonl").is_file()


def test_forced_run_deletes_nothing_that_is_not_a_runs(tmp_path):
    run = filled(tmp_path / "run")
    (run.path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"a run directory with nothing else in it, got one with notes\.txt"):
        create(run.path, is_forced=True)
    assert (run.path / "metrics.jsonl").is_file()
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="expected a run directory, got a file"):
        create(tmp_path / "thesis.txt", is_forced=True)


def test_forced_run_at_a_link_replaces_the_run_it_leads_to_and_leaves_the_link(tmp_path):
    filled(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    create(tmp_path / "link", is_forced=True)
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "created"


# Names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "half a pair \ud800", "file/run"])
@pytest.mark.parametrize("is_forced", [False, True])
def test_path_that_no_folder_can_have_is_the_users_mistake(tmp_path, name, is_forced):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="expected a folder that can be written"):
        create(tmp_path / name, is_forced=is_forced)
    with pytest.raises(RunError, match="expected a folder that can be written"):
        check_free(tmp_path / name, is_forced=is_forced)
    with pytest.raises(RunError, match="expected a run directory, got no such folder"):
        RunDirectory.open(tmp_path / name)


@pytest.mark.parametrize("name", ["x" * 255, ".hidden", "a\nb", "half \ud800", "ends.", "con", "  ", "é" * 127, "[b]"])
def test_recipe_of_any_name_has_a_run_that_lists_find(tmp_path, name):
    from mamlcli.runs.search import newest_run_path, run_folders

    first, second = numbered(tmp_path, name), numbered(tmp_path, name)
    assert newest_run_path(tmp_path, name) == second.path
    assert list(run_folders(tmp_path)) == [first.path, second.path]


def test_dangling_link_is_no_place_for_a_run(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(RunError):
        create(Path(tmp_path / "link"))
    assert not (tmp_path / "nothing").exists()
