"""Tables as Markdown and LaTeX: escapes, numbers, and letters that fonts have not."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from mamlcli.common.words import one_line
from mamlcli.runs.text_tables import TextTable, escape_latex, escape_markdown, latex, latex_document, markdown
from tests.helpers.exported_runs import NASTY
from tests.helpers.latex import check_latex, text_of_latex

FOREIGN = "Ωμέγα 中文"


def table_of(*rows, caption="", is_number=(False, True)):
    headers = ("name", "value", "other")[: len(is_number)]
    return TextTable(caption, headers, is_number, rows, "label")


def test_markdown_is_a_table_with_its_caption_below():
    assert markdown(table_of(("a_b", "1.0"), caption="All.")) == (
        "| name | value |\n| --- | ---: |\n| a\\_b | 1.0 |\n\nAll.\n"
    )


@pytest.mark.parametrize("text", [NASTY, FOREIGN, "___", "***", "``", "[a](b)", "![a](b)", "\\|", "|", "a  b"])
def test_escaped_markdown_is_the_text(text):
    (token,) = (t for t in MarkdownIt("commonmark").parse(f"x {escape_markdown(text)} y") if t.type == "inline")
    assert "".join(child.content for child in token.children) == f"x {text} y"


@pytest.mark.parametrize("text", [NASTY, "plain", "two\nlines", "a---b,,c", "{", "}", "%", "[1]", "\x1b"])
def test_escaped_latex_is_the_text(text):
    assert text_of_latex(escape_latex(text)) == one_line(text)


def test_escaped_latex_has_no_ligature():
    assert escape_latex("a--b,,c") == "a-{}-b,{},c"


def test_numbers_are_set_as_numbers():
    table = TextTable("", ("name", "a", "b"), (False, True, True), (("-1", "-1.2e+06 ± 3.0", "-"),), "x")
    assert r"-1 & $-1.2 \times 10^{6} \pm 3.0$ & -- \\" in latex(table)


def test_latex_says_what_it_needs():
    lines = latex(table_of(("a", "1.0"))).splitlines()
    assert lines[0] == r"% Needs in the preamble: \usepackage{booktabs,textcomp}"
    assert r"\label{tab:label}" in lines[4]


def test_latex_of_any_text_is_well_formed():
    text = latex(table_of((NASTY, "1.0"), ("x" * 40 + "-y", "-"), caption=NASTY))
    check_latex(text)
    assert r"-\allowbreak{}y" in text


def test_a_long_column_of_text_has_a_width_and_breaks():
    spec = latex(table_of(("word " * 12, "1.0"))).split("{tabular}")[1].splitlines()[0]
    # What the other column leaves: 1 - 5 / 90 for the letters of "value", less 0.05 for each column.
    assert spec == r"{p{0.84\linewidth}r}"


def test_letters_that_pdflatex_has_not_are_declared_by_number():
    document = latex_document(table_of((FOREIGN, "1.0")))
    check_latex(document)
    assert r"\DeclareUnicodeCharacter{4E2D}{U+4E2D}" in document
    assert "% Needs XeLaTeX or LuaLaTeX" in document
    assert "LuaLaTeX and" not in latex(table_of(("é ß ł", "1.0")))
