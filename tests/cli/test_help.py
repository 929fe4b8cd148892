"""Help: grouped by what a person wants, with examples that are commands."""

from __future__ import annotations

import shlex
import sys

import pytest
import typer

from mamlcli.cli.app import app
from mamlcli.cli.options import recipe_and_overrides
from tests.helpers.terminal import shown_on_terminal

ROOT = typer.main.get_command(app)


def commands(command=ROOT, words=()):
    """Return every command and group by its words."""
    found = {words: command}
    for name, below in getattr(command, "commands", {}).items():
        found |= commands(below, (*words, name))
    return found


COMMANDS = commands()
# In the source an example is the indented line of a docstring that begins with the program's name.
EXAMPLES = [
    line.strip()
    for command in COMMANDS.values()
    for line in (command.help or "").splitlines()
    if line.startswith("  mamlcli ")
]


def is_group(command):
    return hasattr(command, "commands")


def test_commands_are_grouped_by_what_a_person_wants(cli):
    shown = cli("--help").out
    for panel in ("Train and use", "The paper", "Your runs and data", "This installation"):
        assert f"─ {panel} ─" in shown
    assert "─ Commands ─" not in shown


@pytest.mark.parametrize("words", [words for words, command in COMMANDS.items() if not is_group(command)], ids=" ".join)
def test_every_command_has_examples_of_itself(words):
    lines = (COMMANDS[words].help or "").splitlines()
    own = [line for line in lines if line.startswith(f"  mamlcli {' '.join(words)}")]
    assert own
    assert "Examples:" in lines


@pytest.fixture
def my_recipe(cli):
    """The user's own file that examples name."""
    assert cli("recipes", "cp", "glyphs-5way-1shot", "my.yaml").code == 0


def parsed(example):
    """Return the command of an example, and the parameters that its words mean; nothing is run."""
    command, context, words = ROOT, None, shlex.split(example)[1:]
    while is_group(command) and words and words[0] in command.commands:
        context = command.make_context(words[0], [], parent=context, resilient_parsing=True)
        command, words = command.commands[words[0]], words[1:]
    if "--help" in words:
        return command, {}
    return command, command.make_context("mamlcli", list(words), parent=context).params


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_is_a_command(example, my_recipe):
    command, params = parsed(example)
    assert not is_group(command) or "--help" in example
    words = list(params.get("arguments") or [])
    if words and words[0].startswith("runs/"):  # a run to start from
        words = words[1:]
    if "arguments" in params:
        recipe_and_overrides(words or None)


def test_a_wrong_example_would_be_found(my_recipe):
    for wrong in ("mamlcli train --nothing", "mamlcli adapt", "mamlcli train inner.stesp=5", "mamlcli trian"):
        with pytest.raises((Exception, SystemExit)):
            test_example_is_a_command(wrong, None)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "mamlcli")
def test_help_is_plain_text_that_fits_80_columns(cli, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = cli(*words, "--help").out
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {}])
def test_no_color_is_plain_text_on_a_terminal_too(tmp_path, environment):
    shown = shown_on_terminal([sys.executable, "-m", "mamlcli", "data", "ls"], tmp_path, **environment)
    lines = shown.splitlines()
    assert any("omniglot" in line for line in lines)
    if environment:
        assert "\x1b" not in shown
        assert max(map(len, lines)) <= 80
    else:
        assert "\x1b" in shown
