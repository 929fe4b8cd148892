"""The command line as a whole: which commands there are, and what they share."""

from __future__ import annotations

import typer

import mamlcli
from mamlcli.cli.app import app

ROOT = typer.main.get_command(app)


def leaves(command, words=()):
    """Return every command that is no group, by its words."""
    below = getattr(command, "commands", None)
    if below is None:
        return {" ".join(words): command}
    return {name: leaf for word in below for name, leaf in leaves(below[word], (*words, word)).items()}


COMMANDS = leaves(ROOT)


def test_the_commands_are_those_that_are_documented():
    studies = ["sweep-depth", "add-linear", "meta-opt", "layers", "reproduce"]
    recipes = [f"recipes {word}" for word in ("ls", "show", "cp", "check", "schema", "verify")]
    runs = [f"runs {word}" for word in ("ls", "show", "compare", "export")]
    models = [f"models {word}" for word in ("ls", "show")]
    data = [f"data {word}" for word in ("ls", "fetch", "import", "check", "show", "export")]
    assert sorted(COMMANDS) == sorted(["train", "adapt", *recipes, *studies, *runs, *models, *data, "doctor", "bench"])


def test_options_of_one_name_mean_one_thing():
    """`--device`, `--json`, `--jobs` and `--split` have the same help wherever the same is meant."""
    helps = {}
    for command in COMMANDS.values():
        for parameter in command.params:
            for option in parameter.opts:
                helps.setdefault(option, set()).add(parameter.help)
    assert [len(helps[option]) for option in ("--device", "--json", "--jobs")] == [1, 1, 1]


def test_version_is_a_result_and_ends_the_command(cli):
    shown = cli("--version", "no-such-command")
    assert (shown.code, shown.out) == (0, f"mamlcli {mamlcli.__version__}\n")


def test_an_unknown_command_is_a_mistake_of_usage(cli):
    shown = cli("trian")
    assert shown.code == 2
    assert "No such command 'trian'" in shown.err


def test_without_words_the_help_is_shown(cli):
    assert "Meta-train networks that adapt to a new task" in " ".join((cli().out + cli().err).split())


def test_ctrl_c_in_a_command_is_told_and_ends_with_130(cli, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mamlcli.runs.catalogue.find_runs", interrupted)
    ended = cli("runs", "ls")
    assert (ended.code, ended.err) == (130, "interrupted\n")
