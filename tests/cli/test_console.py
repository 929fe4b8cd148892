"""The console: one sink that decides between JSON and tables, in every mode it can be in."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.text import Text

import mamlcli
from mamlcli.cli import console
from mamlcli.common.tables import plain_table
from tests.helpers.terminal import shown_on_terminal

LONG = "runs/" + "a-long-name-" * 8 + "end"  # longer than a terminal, shorter than a line of a file


@dataclass(frozen=True)
class Measured:
    """A result as commands have them."""

    value: float

    def to_json(self):
        return {"value": self.value}


def parts(report):
    yield Text.assemble(("value", "bold"), f" {report.value} in {LONG}")
    yield console.Verbatim("key: [1, 2]")
    yield console.Note(Text("files are elsewhere", style="dim"))


@pytest.fixture(autouse=True)
def tables():
    """Begin with tables, whatever the last command of another test asked for, and leave it so."""
    console.choose_json(False)
    yield
    console.choose_json(False)


SHOW = (
    "import sys; from mamlcli.cli import console; from tests.cli.test_console import Measured, parts\n"
    "console.choose_json('--json' in sys.argv)\n"
    "console.show(Measured(0.5), parts)"
)


def test_on_a_terminal_a_result_has_bold_and_folds_at_its_width(tmp_path):
    shown = shown_on_terminal([sys.executable, "-c", SHOW], tmp_path)
    assert "\x1b[1mvalue\x1b[0m 0.5" in shown
    assert LONG not in shown
    assert "key: [1, 2]\n" in shown
    assert "\x1b[2mfiles are elsewhere\x1b[0m" in shown


def test_json_on_a_terminal_is_the_document_alone(tmp_path):
    shown = shown_on_terminal([sys.executable, "-c", SHOW, "--json"], tmp_path)
    assert json.loads(shown) == {"value": 0.5}
    assert "\x1b" not in shown


def test_off_a_terminal_a_result_is_plain_text_and_long_names_stay_whole(capsys):
    console.show(Measured(0.5), parts)
    shown = capsys.readouterr()
    assert shown.out == f"value 0.5 in {LONG}\nkey: [1, 2]\n"
    assert shown.err == "files are elsewhere\n"


def test_json_off_a_terminal_is_the_document_alone_and_no_part_is_made(capsys):
    def no_parts(report):
        raise AssertionError("parts are for tables")

    console.choose_json(True)
    console.show(Measured(float("nan")), no_parts)
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"value": None}
    assert shown.err == ""


@pytest.mark.parametrize("is_json", [False, True])
def test_a_result_of_another_json_form_says_which_and_pays_for_it_with_json_alone(capsys, is_json):
    console.choose_json(is_json)
    calls = []

    def to_json(rows):
        calls.append(rows)
        return [{"row": row} for row in rows]

    console.show([1, 2], lambda rows: [f"{len(rows)} rows"], to_json=to_json)
    out = capsys.readouterr().out
    assert calls == ([[1, 2]] if is_json else [])
    assert (json.loads(out) if is_json else out) == ([{"row": 1}, {"row": 2}] if is_json else "2 rows\n")


def test_a_report_says_its_json_form_itself_and_primitives_are_theirs():
    assert console.json_form(Measured(2.0)) == {"value": 2.0}
    assert console.json_form([{"name": "a"}]) == [{"name": "a"}]


def test_the_next_command_in_the_same_process_shows_tables_again(cli):
    assert cli("recipes", "ls", "--json").out.startswith("[")
    assert not cli("recipes", "ls").out.startswith("[")


def test_warnings_and_errors_go_to_stderr_with_brackets_as_they_are(capsys):
    console.warn("[x] is not markup")
    console.error("one [a]\ntwo")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "warning: [x] is not markup\nerror: one [a]\nerror: two\n"


SOURCES = sorted(Path(mamlcli.__file__).parent.joinpath("cli").rglob("*.py"))
FUNCTIONS = [
    (f"{path.stem}.{node.name}", node)
    for path in SOURCES
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef)
]


def names_in(function):
    """Return the names that a function's body reads, with their dots."""
    nodes = [node for part in function.body for node in ast.walk(part)]
    return {ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}


@pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_no_command_decides_how_its_result_looks(name, function):
    """Nothing in a command reads `--json`, and the console alone writes JSON."""
    assert "as_json" not in names_in(function)
    assert "json_text" not in names_in(function) or name == "console.show"


def test_every_command_that_shows_a_result_can_be_asked_for_json():
    arguments = {name: {argument.arg for argument in function.args.args} for name, function in FUNCTIONS}
    commands = {name for name in arguments if "as_json" in arguments[name]}
    shown = {name for name, function in FUNCTIONS if "console.show" in names_in(function)}
    # Those that are no commands are called by commands that have the option.
    assert shown - commands == {
        "bench.show_tuning",
        "adapt.predict",
        "adapt.rescore",
        "study_display.study",
        "study_display.show_collapse",
        "reproduce.show_result",
        "train.show_dry_run",
    }


def test_the_json_option_tells_the_console(cli):
    assert json.loads(cli("data", "ls", "--json").out)
    assert cli("data", "ls").out.lstrip().startswith("source")


HOSTILE = "[red]x[/] [link=http://a]y[/link] :smile: 12 True 'z' \\\\[b]"


@pytest.mark.parametrize("show", [console.note, console.warn, console.error, console.result, console.result_text])
def test_text_is_no_markup_and_has_no_emoji_codes(capsys, show):
    show(HOSTILE)
    shown = capsys.readouterr()
    assert (shown.out + shown.err).split(": ", show in (console.warn, console.error))[-1] == f"{HOSTILE}\n"


def test_cells_titles_captions_and_columns_of_tables_are_no_markup_either(capsys):
    table = plain_table(f"{HOSTILE} title", f"{HOSTILE} caption")
    table.add_column(f"{HOSTILE} column")
    table.add_row(f"{HOSTILE} cell")
    console.result(table)
    shown = capsys.readouterr().out
    for part in ("title", "caption", "column", "cell"):
        assert f"{HOSTILE} {part}" in shown


@pytest.mark.parametrize("show", [console.note, console.warn, console.error, console.result, console.result_text])
def test_control_characters_are_written_out(capsys, show):
    show("a\x1b[31mb\u202ed")
    shown = capsys.readouterr()
    assert r"a\x1b[31mb\u202ed" in shown.out + shown.err


def test_control_characters_in_text_with_a_style_and_in_cells_are_written_out(capsys):
    table = plain_table()
    table.add_row("a\x1b[31mb")
    console.result(table)
    console.result(Text("e\x1b[33mf"))
    shown = capsys.readouterr().out
    assert all(part in shown for part in (r"a\x1b[31mb", r"e\x1b[33mf"))


def test_colours_of_our_own_stay_on_a_terminal(tmp_path):
    code = "from mamlcli.cli import console; console.error('a \\x1b[1m'); console.warn('[red]')"
    shown = shown_on_terminal([sys.executable, "-c", code], tmp_path)
    assert "\x1b[31merror:\x1b[0m a \\x1b[1m" in shown
    assert "\x1b[33mwarning:\x1b[0m [red]" in shown


def test_notes_and_errors_are_not_folded_so_that_commands_can_be_copied(tmp_path):
    code = f"from mamlcli.cli import console; console.note('Run: mamlcli adapt {LONG} --out {LONG}')"
    assert f"mamlcli adapt {LONG} --out {LONG}" in shown_on_terminal([sys.executable, "-c", code], tmp_path)
