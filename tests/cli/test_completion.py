"""Completion: what the shell offers, asked for as the shells ask, through their environment variables."""

from __future__ import annotations

import contextlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import mamlcli
from mamlcli.cli.app import app
from mamlcli.common.errors import RecipeError
from mamlcli.common.names import TRANSFORMS
from mamlcli.recipe.files import load_recipe, shipped_recipes
from mamlcli.recipe.keys import known_keys
from mamlcli.runs.models import shipped_models


@pytest.fixture
def offered(cli, monkeypatch):
    """Return what fish would offer after `mamlcli ...`, {word: help}."""
    monkeypatch.setenv("_MAMLCLI_COMPLETE", "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")

    def ask(typed):
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"mamlcli {typed}")
        lines = cli().out.splitlines()
        return {word: text for word, _, text in (line.partition("\t") for line in lines if line)}

    return ask


@pytest.fixture
def in_bash(cli, monkeypatch):
    """Return what bash would offer for the last of some words, which it takes apart at `=`."""
    monkeypatch.setenv("_MAMLCLI_COMPLETE", "complete_bash")

    def ask(*words):
        monkeypatch.setenv("COMP_WORDS", "\n".join(("mamlcli", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        return cli().out.splitlines()

    return ask


def make_run(path):
    path.mkdir(parents=True)
    (path / "recipe.yaml").write_text("seed: 0\n")


def test_recipes_are_the_shipped_ones_and_files(offered, tmp_path):
    (tmp_path / "my.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    found = offered("train ")
    assert set(found) == {*shipped_recipes(), "my.yaml"}
    assert found["sinusoid"].startswith("Regression of sinusoids")
    assert set(offered("recipes show gly")) == {"glyphs-5way-1shot"}


def test_the_only_folder_on_the_way_to_a_recipe_is_gone_into(offered, tmp_path):
    (tmp_path / "own" / "old").mkdir(parents=True)
    (tmp_path / "own" / "old" / "a.yaml").write_text("")
    assert list(offered("train ow")) == ["own/old/a.yaml"]


def test_keys_are_those_of_the_recipe(offered):
    assert "model.stride=" in offered("train glyphs-5way-1shot model.")
    of_linear = offered("train logistic model.")
    assert "model.bias=" in of_linear
    assert "model.stride=" not in of_linear
    # Another kind has other keys.
    assert "model.activation=" in offered("train logistic model.kind=mlp model.")
    assert "model.bias=" in offered("sweep-depth model.")


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_key_and_value_that_is_offered_is_one_of_the_schema(name):
    recipe = load_recipe(name)[1]
    keys = known_keys({"tasks": recipe.tasks.source, "model": recipe.model.kind})
    sections = {a: below for a, below in recipe.model_dump().items() if isinstance(below, dict)}
    assert {f"{a}.{b}" for a, below in sections.items() for b in below} | {"seed", "logging"} <= set(keys)
    refused = []
    for key, known in keys.items():
        for value in known.values if key not in ("tasks.source", "model.kind") else ():
            with contextlib.suppress(RecipeError):
                load_recipe(name, [f"{key}={value}"])
                continue
            refused.append((key, value))
    # What the schema knows may still not go with another key of this recipe.
    apart = {
        "evaluation.batch_norm",
        "evaluation.split",
        "inner.algorithm",
        "inner.head",
        "inner.joint_features",
        "inner.transform.adapted",
        "inner.memory",
        "execution.path",
        "execution.compile",
        "validation.metric",
        "reference.metric",
        "reference.steps",
        "outer.schedule",
        "tasks.class_split",
    }
    assert {key for key, _ in refused} <= apart


def test_values_of_a_closed_set(offered):
    assert list(offered("train inner.algorithm=")) == [
        f"inner.algorithm={n}" for n in ("maml", "fomaml", "anil", "boil")
    ]
    assert list(offered("train inner.algorithm=a")) == ["inner.algorithm=anil"]
    assert set(offered("train tasks.rotations=")) == {"tasks.rotations=true", "tasks.rotations=false"}
    assert list(offered("train omniglot-5way-1shot tasks.class_split=v")) == ["tasks.class_split=vinyals"]


def test_a_key_never_stands_alone_as_a_space_would_follow(offered):
    assert set(offered("train inner.steps")) == {"inner.steps=", "inner.steps=5"}
    assert len(offered("train inner.algo")) == 4


def test_a_key_that_is_set_is_not_offered_again(offered):
    assert "inner.steps=" not in offered("train logistic inner.steps=3 inner.")


def test_bash_takes_keys_and_values_apart(in_bash):
    assert in_bash("train", "inner.algorithm", "=", "an") == ["anil"]
    assert in_bash("train", "inner.algorithm", "=") == ["maml", "fomaml", "anil", "boil"]
    assert in_bash("train", "seed", "=", "1", "inner.algorithm", "=", "f") == ["fomaml"]
    assert "model.norm=group" in in_bash("train", "tasks.shots", "=", "5", "model.norm")


def test_runs_are_found_in_studies_too(offered, tmp_path):
    make_run(tmp_path / "runs" / "a-1")
    make_run(tmp_path / "runs" / "sweep-1" / "cells" / "depth-1")
    (tmp_path / "runs" / "sweep-1" / "study.json").write_text("{}")
    make_run(tmp_path / "elsewhere" / "b-1")
    assert set(offered("adapt ")) == {"runs/a-1", "runs/sweep-1/cells/depth-1", *shipped_models()}
    assert set(offered("layers runs/s")) == {"runs/sweep-1/cells/depth-1"}
    assert set(offered("adapt elsewhere/")) == {"elsewhere/b-1"}
    assert set(offered("runs compare runs/s")) == {"runs/sweep-1", "runs/sweep-1/cells/depth-1"}
    assert set(offered("runs show a")) == {"a-1"}
    assert set(offered("sweep-depth --dir ")) == {"runs/sweep-1"}
    assert "runs/a-1" in offered("add-linear runs/")


def test_models_are_offered_where_a_run_is_read_and_nowhere_else(offered, tmp_path):
    models = set(shipped_models())
    assert offered("adapt gl") == {"glyphs-5way-1shot@1": "a trained model"}
    for typed in ("layers ", "runs show ", "runs compare ", "models show ", "add-linear "):
        assert models <= set(offered(typed)), typed
    for typed in ("train ", "train --resume --run-dir ", "sweep-depth --dir ", "recipes show "):
        assert not models & set(offered(typed)), typed
    # The keys are those of the model's recipe.
    assert "model.stride=" in offered("add-linear glyphs-5way-1shot@1 model.")
    assert "model.kind=" in offered("add-linear no-such@1 model.")


def test_data_and_splits(offered, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pets.npz").write_text("")
    assert {"omniglot", "glyphs", "pets"} <= set(offered("data show "))
    assert set(offered("data fetch ")) == {"omniglot", "cifar-fs", "fc100"}
    assert set(offered("data show omniglot --split ")) == {"train", "validation", "test", "all"}
    assert set(offered("adapt x --split t")) == {"train", "test"}


def test_lists_go_on_with_what_is_not_in_them(offered):
    assert set(offered("meta-opt --optimizers none,k")) == {"none,kfo", "none,kfo-mlp"}


def choices(command, option):
    """Return what an option's completer offers."""
    found = typer_command(command)
    (param,) = [param for param in found.params if option in param.opts]
    return {item.value for item in param.shell_complete(found.make_context("x", [], resilient_parsing=True), "")}


def typer_command(words):
    found = typer.main.get_command(app)
    for word in words.split():
        found = found.commands[word]
    return found


def test_closed_sets_are_those_of_the_program():
    from mamlcli.bench.cases import chosen_cases
    from mamlcli.runs.exports import SUFFIXES
    from mamlcli.studies.claims.scales import SCALES
    from mamlcli.tasks.images.sources import FETCHABLE, IMPORTABLE, INVERT_CHOICES

    assert choices("reproduce", "--scale") == set(SCALES)
    assert choices("runs export", "--format") == set(SUFFIXES)
    assert choices("data import", "source") == set(IMPORTABLE)
    assert choices("data fetch", "source") == set(FETCHABLE)
    assert choices("data import", "--invert") == choices("adapt", "--invert") == set(INVERT_CHOICES)
    assert choices("meta-opt", "--optimizers") == set(TRANSFORMS)
    assert chosen_cases(sorted(choices("bench", "--cases")))


@pytest.mark.parametrize("typed", ["mamlcli train inner.", "mamlcli adapt ", "mamlcli data show "])
def test_completion_loads_no_torch(typed, tmp_path):
    code = (
        "import sys\n"
        "sys.argv = ['mamlcli']\n"
        "from mamlcli.__main__ import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'matplotlib', 'scipy', 'PIL'} & set(sys.modules)\n"
        "    sys.stderr.write(f'loaded {sorted(heavy)}')\n"
    )
    asked = {"_MAMLCLI_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": typed}
    environment = os.environ | asked | {"PYTHONPATH": str(Path(mamlcli.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert (ended.returncode, ended.stderr) == (0, "loaded []")
    assert ended.stdout


def test_help_of_a_completion_is_one_short_line(offered):
    for text in (offered("train inner.") | offered("train ")).values():
        assert len(text) <= 60


def test_completion_is_installed_for_a_shell(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    # So that the shell is the one named, not the one that runs the tests.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setattr(typer.main, "get_command", inspect.unwrap(typer.main.get_command))  # it is made for that
    assert cli("--install-completion", "bash").code == 0
    assert "_MAMLCLI_COMPLETE=complete_bash" in (tmp_path / ".bash_completions" / "mamlcli.sh").read_text()
    assert "mamlcli.sh" in (tmp_path / ".bashrc").read_text()
    shown = cli("--show-completion", "zsh")
    assert "#compdef mamlcli" in shown.out
