"""A run goes on with its own recipe; a few keys may change, and every other one is named."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import RunError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.going_on import change_words, recipe_changes


def recipe(*overrides):
    return load_recipe("linear-regression", overrides)[1]


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "a run", recipe(), "a")


def test_run_has_the_recipe_that_it_was_made_with(run):
    assert recipe_changes(run, recipe()) == {}


@pytest.mark.parametrize("key", ["device=cpu", "threads=1", "path=loop", "chunk=3", "compile=false"])
def test_keys_that_change_no_result_beyond_rounding_may_change(run, key):
    assert list(recipe_changes(run, recipe(f"execution.{key}"))) == [f"execution.{key.partition('=')[0]}"]


def test_trackers_may_change(run):
    assert recipe_changes(run, recipe("logging=csv")) == {"logging": ("none", "csv")}


def test_other_keys_are_all_named_with_both_values(run):
    other = recipe("seed=7", "execution.dtype=float64", "execution.threads=1", "inner.lr=0.5")
    with pytest.raises(RunError) as caught:
        recipe_changes(run, other, may_lengthen=True)
    text = str(caught.value)
    for words in ("seed (0 there, 7 here)", "execution.dtype ('float32' there, 'float64' here)", "inner.lr ("):
        assert words in text
    assert "execution.threads (" not in text
    assert f"mamlcli train --resume --run-dir '{run.path}'" in text
    assert f"mamlcli train --from '{run.path}' KEY=VALUE" in text


def test_length_changes_only_where_no_other_recipe_is_named(run):
    longer = recipe("outer.iterations=123456")
    assert list(recipe_changes(run, longer, may_lengthen=True)) == ["outer.iterations"]
    with pytest.raises(RunError, match=r"--resume --run-dir '.*a run' outer\.iterations=123456"):
        recipe_changes(run, longer)


def test_place_of_data_is_the_same_however_it_is_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDirectory.create(tmp_path / "run", load_recipe("folder", ["tasks.path=photos"])[1], "folder")
    monkeypatch.chdir("/")
    for typed in (f"{tmp_path}/photos", f"{tmp_path.as_posix().lstrip('/')}/photos"):
        assert recipe_changes(run, load_recipe("folder", [f"tasks.path={typed}"])[1]) == {}
    changes = recipe_changes(run, load_recipe("folder", ["tasks.path=/elsewhere"])[1])
    assert changes == {"tasks.path": (f"{tmp_path}/photos", "/elsewhere")}


def test_a_word_says_whether_bits_may_differ():
    words = change_words({"execution.threads": (None, 1), "workers": (1, 2), "tasks.path": ("/a", "/b")})
    assert words[0].startswith("execution.threads: 1 now, null before; ")
    assert ["last bits" in line for line in words] == [True, True, False]
