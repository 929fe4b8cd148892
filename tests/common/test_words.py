"""Words of messages: what cannot be printed is written out, and the nearest name is suggested."""

from __future__ import annotations

import os

import pytest

from mamlcli.common.words import composed, first_line, lines_of, nearest, one_line, printable, shown


def test_first_line_of_an_error_has_no_full_stop():
    assert first_line(ValueError("no such file.\nat line 3")) == "no such file"
    assert first_line(ValueError()) == "no message"


@pytest.mark.parametrize(("text", "line"), [("a\nb\tc", r"a\nb\tc"), ("\x1b[31mred", r"\x1b[31mred"), ("ä ✓", "ä ✓")])
def test_line_ends_and_escapes_are_written_out(text, line):
    assert one_line(text) == shown(text) == line


def test_bytes_that_are_no_text_are_written_out():
    name = os.fsdecode(b"a\xff\n")
    assert printable(name) == "a\\udcff\n"
    assert shown(name) == "a\\udcff\\n"
    assert printable(name).encode()


def test_nearest_name_is_suggested_and_nothing_where_none_is_near():
    assert nearest("kfo2", ["none", "kfo", "kfo-mlp"]) == " Did you mean 'kfo'?"
    assert nearest("zzz", ["none", "kfo"]) == ""
    assert nearest("none at all", ["none"], cutoff=0.9) == ""


def test_decomposed_names_are_composed() -> None:
    assert composed("e\u0301te\u0301") == "\u00e9t\u00e9"


def test_marks_of_direction_are_written_out_and_spaces_and_joiners_of_scripts_stay() -> None:
    assert one_line("a\u202eb\u2066c\u200f") == r"a\u202eb\u2066c\u200f"
    assert one_line("\u65e5\u672c\u3000\u8a9e") == "\u65e5\u672c\u3000\u8a9e"
    assert one_line("\u0645\u06cc\u200c\u062e") == "\u0645\u06cc\u200c\u062e"


def test_lines_of_a_text_stay_lines() -> None:
    assert lines_of("a\tb\n\x1b[1mc\n") == "a\\tb\n\\x1b[1mc\n"


def test_names_that_python_reads_as_ascii_are_those_of_utf_8() -> None:
    """With LC_ALL=C the bytes of a name beyond ASCII arrive as halves of pairs."""
    as_ascii = "f\u00fcnf".encode().decode("ascii", "surrogateescape")
    assert composed(as_ascii) == printable(as_ascii) == "f\u00fcnf"
    assert composed("a\udcff\ud800") == "a\udcff\ud800"
