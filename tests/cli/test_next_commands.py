"""What is worth trying after a training: with the recipe's path and the keys of the run, and never what is refused."""

from __future__ import annotations

import shlex
from pathlib import Path

from mamlcli.cli.next_commands import next_commands, typed_recipe
from mamlcli.recipe.files import load_recipe


def suggested(name: str, *keys: str, typed: list[str] | None = None) -> list[list[str]]:
    words = typed_recipe(typed or [name, *keys])
    found = next_commands(load_recipe(name, keys)[1], Path("runs/my run-1"), words, num_inner_steps=3)
    return [shlex.split(line)[1:] for line, _ in found]


def test_keys_of_the_run_come_along_and_one_of_the_same_name_is_replaced() -> None:
    commands = suggested("linear-regression", "model.depth=2", "inner.lr=0.3")
    assert ["adapt", "runs/my run-1", "--steps", "6"] in commands
    assert ["train", "linear-regression", "inner.lr=0.3", "model.depth=3"] in commands


def test_a_recipe_of_the_users_own_is_named_by_its_path(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my exp.yaml").write_bytes(Path(load_file("sinusoid")).read_bytes())
    assert ["train", "my exp.yaml", "inner.algorithm=anil"] in suggested("my exp.yaml")


def load_file(name: str) -> str:
    from mamlcli.recipe.files import find_recipe

    return str(find_recipe(name))


def test_what_the_run_has_already_or_its_recipe_cannot_have_is_not_suggested() -> None:
    assert not any(words[-1] == "inner.algorithm=anil" for words in suggested("sinusoid", "inner.algorithm=anil"))
    assert not any(words[-1] == "model.depth=1" for words in suggested("sinusoid", "model.depth=1"))
    every = suggested("glyphs-5way-1shot", "tasks.held_back=20")
    assert all(words[:2] != ["train", "glyphs-5way-1shot"] or "tasks.held_back=20" in words for words in every)


def test_the_default_recipe_and_the_device_are_named() -> None:
    assert typed_recipe(None) == ["glyphs-5way-1shot"]
    assert typed_recipe(["seed=1"], "cpu") == ["glyphs-5way-1shot", "seed=1", "execution.device=cpu"]


def test_a_run_of_parts_from_python_has_no_command_that_would_need_them() -> None:
    recipe = load_recipe("sinusoid", ["inner.transform=python"])[1]
    commands = [line for line, _ in next_commands(recipe, Path("runs/one"), ["sinusoid"], num_inner_steps=1)]
    assert commands == ["mamlcli runs show runs/one"]
