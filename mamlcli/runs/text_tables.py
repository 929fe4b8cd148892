"""Writes tables as Markdown and LaTeX, with their special characters escaped."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mamlcli.common.words import one_line


@dataclass(frozen=True)
class TextTable:
    """Holds a table for readers, its cells as text.

    Attributes:
        caption: in plain words.
        headers: of the columns.
        is_number: for each column, whether its cells are numbers.
        rows: cells, as many as there are headers.
        label: for references to the table.
    """

    caption: str
    headers: tuple[str, ...]
    is_number: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    label: str


# Markdown --------------------------------------------------------------------------------------------------------

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~&#$!])")


def escape_markdown(text: str) -> str:
    """Return a text escaped so that GitHub's Markdown shows it as it is, in one line and in tables too."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", one_line(text))


def markdown(table: TextTable) -> str:
    """Return a table as GitHub Markdown, with its caption below it."""
    rows = [[escape_markdown(cell) for cell in row] for row in (table.headers, *table.rows)]
    rule = ["---:" if is_number else "---" for is_number in table.is_number]
    lines = ["| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:])]
    return "\n".join([*lines, "", escape_markdown(table.caption), ""])


# LaTeX -----------------------------------------------------------------------------------------------------------

_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "±": r"$\pm$",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
}


_NUMBER = re.compile(r"-?[0-9.]+(e[+-][0-9]+)?( ± [0-9.]+(e[+-][0-9]+)?)?")


# What the fonts of every LaTeX have, with inputenc's utf8 and T1: ASCII, Latin-1's letters and Latin Extended-A.
_LATEX_LETTERS = (
    range(0x20, 0x7F),
    range(0xC0, 0xD7),
    range(0xD8, 0xF7),
    range(0xF8, 0x138),
    range(0x139, 0x149),
    range(0x14A, 0x166),
    range(0x168, 0x17F),
)


_PACKAGES = r"\usepackage{booktabs,textcomp}"


def escape_latex(text: str) -> str:
    """Return a text escaped so that LaTeX shows it as it is, in one line and without ligatures."""
    escaped = "".join(_LATEX_SPECIAL.get(char, char) for char in one_line(text))
    return re.sub(r"([-,])(?=\1)", r"\1{}", escaped)


def _latex_number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        return "--" if text == "-" else escape_latex(text)
    powers = re.sub(r"e([+-][0-9]+)", lambda match: rf" \times 10^{{{int(match[1])}}}", text)
    return f"${powers.replace('±', chr(92) + 'pm')}$"


def latex(table: TextTable) -> str:
    """Return a table as LaTeX to be put into a document; its first lines say which packages that needs."""
    # Columns of text that is long get a width, so that their lines break.
    widths = [max(len(row[n]) for row in (table.headers, *table.rows)) for n in range(len(table.headers))]
    spec = "".join(
        "r" if is_number else ("l" if width <= _LONG else rf"p{{{_share(widths, n):.2f}\linewidth}}")
        for n, (is_number, width) in enumerate(zip(table.is_number, widths, strict=True))
    )
    lines = [r"% Needs in the preamble: " + _PACKAGES]
    text = "".join("".join(row) for row in table.rows).replace("±", "") + table.caption.replace("±", "")
    if not text.isascii():
        lines.append(r"% and with pdfLaTeX, for letters beyond ASCII: \usepackage[T1]{fontenc}")
    if others := "".join(sorted(_foreign(text))):
        lines.append(f"% Needs XeLaTeX or LuaLaTeX and a font that has: {others}")
    lines += [r"\begin{table}", r"  \centering", r"  \caption{" + escape_latex(table.caption) + "}"]
    lines += [r"  \label{tab:" + table.label + "}", r"  \begin{tabular}{" + spec + "}", r"    \toprule"]
    lines += [f"    {_latex_row(table.headers, [escape_latex] * len(table.headers))}", r"    \midrule"]
    cells: list[Callable[[str], str]] = [_latex_number if is_number else _breakable for is_number in table.is_number]
    lines += [f"    {_latex_row(row, cells)}" for row in table.rows]
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


_LONG = 30  # letters of a column that must not set the table's width


def _share(widths: Sequence[int], column: int) -> float:
    """Return the share of the line's width for a long column; a line has some 90 letters."""
    num_long = sum(width > _LONG for width in widths)
    left = 1.0 - sum(width / 90 for width in widths if width <= _LONG) - 0.05 * len(widths)
    return max(0.15, left / num_long) if widths[column] > _LONG else 0.0


def _breakable(text: str) -> str:
    """Return an escaped cell; in long ones, words may break after punctuation."""
    escaped = escape_latex(text)
    return re.sub(r"(-|\\_|=|\.|/)(?!\{)", r"\1\\allowbreak{}", escaped) if len(text) > _LONG else escaped


def _latex_row(cells: Sequence[str], written: Sequence[Callable[[str], str]]) -> str:
    return " & ".join(write(cell) for write, cell in zip(written, cells, strict=True)) + r" \\"


def _foreign(text: str) -> set[str]:
    """Return the letters of a text that pdfLaTeX cannot show by itself."""
    return {c for c in one_line(text) if c not in _LATEX_SPECIAL and not any(ord(c) in r for r in _LATEX_LETTERS)}


def latex_document(table: TextTable) -> str:
    """Return a whole document that compiles with pdfLaTeX, XeLaTeX and LuaLaTeX.

    pdfLaTeX has no glyphs for many scripts; there, such a letter is shown by its number, as in U+4E2D.
    """
    others = _foreign("".join("".join(row) for row in table.rows) + table.caption)
    declared = [rf"  \DeclareUnicodeCharacter{{{ord(c):04X}}}{{U+{ord(c):04X}}}" for c in sorted(others)]
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage{iftex}",
            r"\ifPDFTeX",
            r"  \usepackage[T1]{fontenc}",
            r"  \usepackage[utf8]{inputenc}",
            *declared,
            r"\else",
            r"  \usepackage{fontspec}",
            r"\fi",
            _PACKAGES,
            r"\begin{document}",
            latex(table).rstrip("\n"),
            r"\end{document}",
            "",
        ]
    )
