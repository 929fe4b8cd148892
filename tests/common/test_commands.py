"""Suggested commands: each word is one argument of a shell."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

import mamlcli
from mamlcli.cli.app import app
from mamlcli.common.commands import command


@pytest.mark.parametrize(
    "word", ["plain", "my exp", "a'b", 'a"b', "$HOME", "a;b", "[red]", "*", "~x", "", "tasks.path=my photos"]
)
def test_each_word_is_one_argument(word: str) -> None:
    assert shlex.split(command("train", word)) == ["mamlcli", "train", word]


def test_paths_are_words() -> None:
    assert command("adapt", Path("runs/my exp-1")) == "mamlcli adapt 'runs/my exp-1'"


def test_control_characters_and_bytes_that_are_no_text_are_arguments_of_bash() -> None:
    for name in (b"a\nb\x1b[31m'\\$x", "\u202eabc é".encode(), b"a\xff b", b"a\t12"):
        shown = command("adapt", Path(os.fsdecode(name)))
        assert shown.isprintable()
        printed = subprocess.run(["bash", "-c", f"mamlcli() {{ printf '%s' \"$2\"; }}; {shown}"], capture_output=True)
        assert printed.stdout == name


def test_a_path_that_begins_with_a_dash_is_no_option() -> None:
    assert command("adapt", Path("-x"), "--out", "y") == "mamlcli adapt ./-x --out y"


# Every suggestion in the source ----------------------------------------------------------------------------------

PACKAGE = Path(mamlcli.__file__).parent
APP = get_command(app)
COMMANDS = "|".join(APP.commands)
TREES = {path.relative_to(PACKAGE): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the texts of a file with their lines, docstrings left out; what is filled in is marked by a zero byte."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and isinstance(node.body[0], ast.Expr)
    }
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inside:
            yield node.lineno, node.value


def test_no_command_is_made_by_hand() -> None:
    """User text in a command must be quoted, which `command` does."""
    by_hand = re.compile(rf"mamlcli (?:(?:{COMMANDS})\b[^.,;:\0]*)?\0")
    found = [
        f"{path}:{line}: {text!r}"
        for path, tree in TREES.items()
        for line, text in texts(tree)
        if by_hand.search(text) and text.replace("\0", "").strip() != "mamlcli"  # a version alone follows
    ]
    assert not found


def made_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the words of every call of `command` in a message, with x for what is not known before the program runs."""
    for path, tree in TREES.items():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        # The first argument of an error is the place of the mistake, and may be a part of a command.
        places = {id(node.args[0]) for node in calls if ast.unparse(node.func).endswith("Error") and node.args}
        for node in calls:
            if ast.unparse(node.func) != "command" or not isinstance(node.args[0], ast.Constant) or id(node) in places:
                continue
            known = [arg for arg in node.args if not isinstance(arg, ast.Starred)]
            words = [str(arg.value) if isinstance(arg, ast.Constant) else "x" for arg in known]
            yield f"{path}:{node.lineno}", words


def written_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the words of every command that ends a message, after a colon."""
    for path, tree in TREES.items():
        for line, text in texts(tree):
            for found in re.finditer(rf": (mamlcli (?:{COMMANDS})\b[^\0]*)$", text):
                yield f"{path}:{line}", shlex.split(found[1])[1:]


SUGGESTIONS = [*made_commands(), *written_commands()]


def test_suggestions_are_found() -> None:
    assert len(SUGGESTIONS) > 40


@pytest.mark.parametrize(("where", "words"), SUGGESTIONS, ids=[f"{w}: {' '.join(c)}" for w, c in SUGGESTIONS])
def test_every_suggestion_has_the_form_of_a_command(where: str, words: list[str]) -> None:
    group, rest = APP, list(words)
    while hasattr(group, "commands") and rest:
        group = group.commands[rest.pop(0)]
    if "--help" in rest:
        return
    # x stands for anything, also for a number.
    with group.make_context("mamlcli", ["1" if word in ("x", "N") else word for word in rest]):
        pass
