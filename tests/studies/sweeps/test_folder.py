"""The folder of a study: what is written there, and when it is refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from mamlcli.common.errors import RunError, TakenError
from mamlcli.common.processes.pool import LocalExecutor
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.lock import held_lock
from mamlcli.studies.sweeps.axes import depth_sweep
from mamlcli.studies.sweeps.folder import begun_sweep, open_study, read_settings, write_result
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.run import run_sweep
from tests.helpers.studies import grid_result, tiny_sweep


def test_figures_and_files_are_written(tmp_path):
    from PIL import Image

    write_result(tmp_path, grid_result())
    with Image.open(tmp_path / "figure.png") as picture:
        assert np.asarray(picture).std() > 0
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")
    assert StudyResult.from_json(json.loads((tmp_path / "result.json").read_text())) == grid_result()
    assert (tmp_path / "table.csv").read_text().splitlines()[0].startswith("depth,optimizer,")


def test_another_studys_folder_is_refused_with_the_keys_that_differ(study):
    _, path = study
    other = tiny_sweep(depths=(1, 3), overrides=["inner.lr=0.25"])
    with pytest.raises(RunError, match=r"values \(\[1, 2\] there, \[1, 3\] here\).*recipe\.inner\.lr \(0\.5 there"):
        open_study(path, other, "command")


def test_a_study_made_on_another_device_is_the_same_study(tmp_path):
    open_study(tmp_path, tiny_sweep(overrides=["execution.device=cuda"]), "command")
    assert open_study(tmp_path, tiny_sweep(overrides=["execution.device=cpu"]), "command")


def test_a_study_goes_on_with_its_data_in_another_place_if_they_are_the_same(tmp_path):
    def study_at(place):
        name, recipe = load_recipe("folder", [f"tasks.path={place}"])
        return depth_sweep(name, recipe, depths=(1, 2), num_seeds=1)

    open_study(tmp_path, study_at("/a"), "command", "digest 1")
    RunDirectory.create(tmp_path / "cells" / "depth-1-seed-0", study_at("/a").recipe, "folder").update_manifest(
        {"data": {"digest": "digest 1"}}
    )
    assert open_study(tmp_path, study_at("/b"), "command", "digest 1")
    with pytest.raises(RunError, match=r"expected the data it was trained on \(digest digest 1\), got other data"):
        open_study(tmp_path, study_at("/b"), "command", "digest 2")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="a folder of something else"):
        open_study(tmp_path, tiny_sweep(), "command")


def test_other_seeds_than_the_folders_first_are_refused(study):
    _, path = study
    with pytest.raises(RunError, match=r"recipe\.seed \(0 there, 5 here\)"):
        open_study(path, tiny_sweep(overrides=["seed=5"]), "command")


def test_a_study_begun_with_common_tasks_goes_on_with_them(tmp_path):
    old = replace(tiny_sweep(), has_common_tasks=True)
    open_study(tmp_path / "old", old, "command")
    assert "tasks" not in json.loads((tmp_path / "old" / "study.json").read_text())
    assert begun_sweep(tmp_path / "old", tiny_sweep()) == old
    assert open_study(tmp_path / "old", old, "command")
    with pytest.raises(RunError, match="tasks"):
        open_study(tmp_path / "old", tiny_sweep(), "command")
    open_study(tmp_path / "new", tiny_sweep(), "command")
    assert json.loads((tmp_path / "new" / "study.json").read_text())["tasks"] == "of each seed"
    assert begun_sweep(tmp_path / "new", tiny_sweep()) == begun_sweep(tmp_path / "none", tiny_sweep()) == tiny_sweep()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": 3}, "seeds: expected a list, got 3"),
        ({"seeds": ["a"]}, "seeds[0]: expected a whole number"),
        ({"recipe": []}, "recipe: expected an object of keys and values, got []"),
        ({"command": 1}, "command: expected a text, got 1"),
    ],
)
def test_settings_with_what_a_key_cannot_mean_are_refused(tmp_path, change, words):
    settings = {"seeds": [0, 1], "recipe": {}, "command": "mamlcli sweep-depth"}
    (tmp_path / "study.json").write_text(json.dumps(settings))
    assert read_settings(tmp_path / "study.json") == settings
    (tmp_path / "study.json").write_text(json.dumps({**settings, **change}))
    with pytest.raises(RunError, match=re.escape(words)):
        read_settings(tmp_path / "study.json")


def test_study_that_was_cut_while_it_was_made_gives_its_folder_to_the_same_study(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "lock").touch()
    (tmp_path / ".study.json.0123abcd.partial").touch()
    assert not open_study(tmp_path, tiny_sweep(), "command")
    assert open_study(tmp_path, tiny_sweep(), "command")


def test_study_that_another_process_is_making_is_not_taken(tmp_path):
    with held_lock(tmp_path), pytest.raises(TakenError, match="got one in use by process"):
        open_study(tmp_path, tiny_sweep(), "command")
    assert not (tmp_path / "study.json").exists()


def test_study_with_a_link_for_its_cells_is_not_written_to(tmp_path):
    open_study(tmp_path / "study", tiny_sweep(), "command")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "study" / "cells").rmdir()
    (tmp_path / "study" / "cells").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="cells: expected a file or folder of the run's own, got a link"):
        run_sweep(tiny_sweep(), tmp_path / "study", executor=LocalExecutor(1), argv=[])
    assert list((tmp_path / "elsewhere").iterdir()) == []
