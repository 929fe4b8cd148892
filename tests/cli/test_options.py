"""Options that commands share, and what their words mean."""

from __future__ import annotations

import pytest
import typer

from mamlcli.cli.app import app
from mamlcli.cli.options import has_recipe, integers, rates, recipe_and_overrides, warn_about_selection, words
from mamlcli.common.errors import MamlError


@pytest.mark.parametrize(
    ("option", "arguments", "expected"),
    [
        (None, None, [0.5, 2.0, 8.0]),
        (None, ["outer.tasks=4"], [0.5, 2.0, 8.0]),
        (None, ["inner.lr=2"], []),
        (None, ["logistic"], []),
        ("", None, []),
        ("3,1", None, [1.0, 3.0]),
    ],
)
def test_a_bare_study_chooses_rates_unless_one_is_set(option, arguments, expected):
    assert rates(option, arguments) == expected


def test_rates_are_sorted_each_once_and_must_be_numbers():
    assert rates("0.3, 0.1,0.3", ["logistic"]) == [0.1, 0.3]
    with pytest.raises(MamlError, match="--inner-lrs: expected numbers separated by commas"):
        rates("0.1,fast", None)


def test_lists_leave_out_what_is_empty():
    assert words(" kfo, none,,") == ["kfo", "none"]
    assert integers("3, 1,", "--depths") == [3, 1]


def test_a_list_that_has_no_whole_numbers_names_its_option():
    with pytest.raises(MamlError, match=r"--layers: expected whole numbers .* got '1,b'"):
        integers("1,b", "--layers")


def test_the_first_word_is_a_recipe_unless_it_sets_a_key():
    assert recipe_and_overrides(["logistic", "seed=3"])[0] == "logistic"
    name, recipe = recipe_and_overrides(["seed=3"], default="sinusoid")
    assert (name, recipe.seed) == ("sinusoid", 3)


def test_a_file_with_an_equals_sign_in_its_name_is_a_recipe(tmp_path, monkeypatch, cli):
    assert cli("recipes", "cp", "sinusoid", "a=b.yaml").code == 0
    assert recipe_and_overrides(["a=b.yaml"])[1] == recipe_and_overrides(["sinusoid"])[1]
    assert has_recipe(["a=b.yaml"])
    assert not has_recipe(["seed=1"])
    assert not has_recipe(None)


def test_the_device_option_outranks_a_key():
    assert recipe_and_overrides(["logistic", "execution.device=auto"], "cpu")[1].execution.device == "cpu"


@pytest.mark.parametrize(
    ("keys", "is_warned"),
    [
        (["evaluation.split=validation"], True),
        (["evaluation.split=validation", "validation.every=null"], False),
        (["evaluation.split=test"], False),
    ],
)
def test_a_split_that_is_scored_and_chose_the_weights_is_warned_of(keys, is_warned, capsys):
    warn_about_selection(recipe_and_overrides(["glyphs-5way-1shot", *keys])[1])
    assert ("the result is a little optimistic" in capsys.readouterr().err) is is_warned


def parameters_of(group, path=()):
    """Yield (command, parameter) of every command below a group."""
    for name, below in group.commands.items():
        if hasattr(below, "commands"):
            yield from parameters_of(below, (*path, name))
        else:
            yield from ((" ".join((*path, name)), parameter) for parameter in below.params)


def test_every_option_that_names_a_place_to_write_looks_for_links_in_runs():
    found = {
        (command, parameter.name)
        for command, parameter in parameters_of(typer.main.get_command(app))
        if parameter.name in ("out", "sheet", "figure", "weights", "collapse", "target")
    }
    assert {command for command, _ in found} >= {"adapt", "layers", "bench", "runs export", "data show", "recipes cp"}
    for command, parameter in parameters_of(typer.main.get_command(app)):
        if (command, parameter.name) in found:
            assert parameter.callback is not None, f"{command}: {parameter.name}"


def test_nothing_is_written_through_a_link_in_a_run(tmp_path, cli):
    run = tmp_path / "strange"
    run.mkdir()
    for name in ("manifest.json", "recipe.yaml"):
        (run / name).touch()
    (tmp_path / "mine").mkdir()
    (run / "out").symlink_to(tmp_path / "mine")
    done = cli("recipes", "cp", "logistic", run / "out" / "new.yaml")
    assert done.code == 1
    assert "Nothing is written or deleted through a link in a run" in done.errors[0]
    assert list((tmp_path / "mine").iterdir()) == []
