"""Runs as tables for papers and programs: CSV, JSON, Markdown and LaTeX, as text. Imports no torch.

One run gives its adaptation curve, several give one row each. CSV and JSON hold plain numbers (accuracies as
fractions), Markdown and LaTeX what a reader wants: per cent, mean and interval, and the protocol in the caption.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mamlcli.errors import one_line
from mamlcli.files import json_text
from mamlcli.recipe_files import recipe_to_tree, shipped_recipes
from mamlcli.run_catalogue import RunEntry, changed_keys
from mamlcli.run_comparison import check_finished, recipe_differences
from mamlcli.run_report import Protocol, RunReport, Scores
from mamlcli.run_tables import run_row, value_text
from mamlcli.statistics import Score
from mamlcli.tables import PERCENT, batch_norm_words, step_words, task_words, with_interval

SUFFIXES = {"csv": ".csv", "json": ".json", "markdown": ".md", "latex": ".tex"}
METRICS = ("support_loss", "support_accuracy", "loss", "accuracy")

# Keys that say how it was computed or scored, not what was trained; the protocol tells the latter.
_NOT_OF_THE_METHOD = ("execution.", "evaluation.", "logging")

_COLUMN_NAMES = {
    "support_loss": "support loss",
    "support_accuracy": "support accuracy (%)",
    "loss": "query loss",
    "accuracy": "query accuracy (%)",
}


@dataclass(frozen=True)
class TextTable:
    """A table for readers: cells are text, columns that are numbers say so.

    Attributes:
        caption: in plain words.
        headers: of the columns.
        is_number: of each column, whether its cells are numbers.
        rows: cells, as many as there are headers.
        label: for references to the table.
    """

    caption: str
    headers: tuple[str, ...]
    is_number: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    label: str


def export_runs(runs: Sequence[RunEntry], form: str, *, is_standalone: bool = False) -> str:
    """Return finished runs in one of the formats of `SUFFIXES`.

    Args:
        runs: one or more.
        form: "csv", "json", "markdown" or "latex".
        is_standalone: LaTeX only: a whole document.

    Raises:
        RunError: a run that is not finished or damaged.
    """
    for run in runs:
        check_finished(run)
    if form == "json":
        return json_text(run_record(runs[0]) if len(runs) == 1 else [run_record(run) for run in runs])
    if form == "csv":
        return _csv(curve_rows(runs[0]) if len(runs) == 1 else [flat_row(run) for run in runs])
    table = curve_text_table(runs[0]) if len(runs) == 1 else runs_text_table(runs)
    if form == "markdown":
        return markdown(table)
    return latex_document(table) if is_standalone else latex(table)


# Plain numbers ---------------------------------------------------------------------------------------------------


def run_record(run: RunEntry) -> dict[str, Any]:
    """Return a run for programs: its line of the list, its whole recipe, its result."""
    report = _report_of(run)
    assert run.recipe is not None
    return {**run_row(run), "recipe_keys": recipe_to_tree(run.recipe), "evaluation": report.to_json()}


def curve_rows(run: RunEntry) -> list[dict[str, Any]]:
    """Return the adaptation curve as rows: an inner step (or a reference) and its numbers."""
    report = _report_of(run)
    curve = [{"inner_step": point.step, **_numbers(point.scores)} for point in report.curve]
    below = [{"inner_step": name, **_numbers(scores)} for name, scores in report.references.items()]
    return [*curve, *below]


def flat_row(run: RunEntry) -> dict[str, Any]:
    """Return a run as one row: what it is, its protocol, its result, and the keys it changes."""
    report = _report_of(run)
    assert run.recipe is not None
    protocol = {f"protocol_{key}": value for key, value in report.protocol.to_json().items()}
    changed = " ".join(f"{key}={value_text(here)}" for key, (_, here) in changed_keys(run).items())
    return {
        "run": run.folder,
        "recipe": run.recipe_name,
        "status": run.status,
        "seed": run.recipe.seed,
        **_numbers(report.final),
        **protocol,
        "weights": report.weights,
        "num_parameters": run.manifest.get("num_parameters"),
        "wall_s": run.wall_s,
        "changed_keys": changed,
    }


def _report_of(run: RunEntry) -> RunReport:
    assert run.report is not None, "a finished run has a report"
    return run.report


def _numbers(scores: Scores) -> dict[str, float | None]:
    """Return scores as `<metric>_mean` and `<metric>_ci95_over_tasks`; `loss` is of the query set."""
    numbers: dict[str, float | None] = {}
    for metric in METRICS:
        if (score := scores.of(metric)) is not None:
            name = metric if metric.startswith("support") else f"query_{metric}"
            numbers |= {f"{name}_{key}": value for key, value in score.to_json().items()}
    return numbers


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


# Tables for readers ----------------------------------------------------------------------------------------------


def protocol_words(protocol: Protocol) -> str:
    """Return all of a protocol in words, as a caption needs it."""
    steps = protocol.inner_steps
    return (
        f"{task_words(protocol)}; {steps} inner step{'s' * (steps != 1)}; {protocol.num_tasks} "
        f"{protocol.split} tasks of evaluation seed {protocol.seed}; "
        f"batch norm: {batch_norm_words(protocol.batch_norm)}"
    )


def curve_text_table(run: RunEntry) -> TextTable:
    """Return the adaptation curve of one run."""
    report = _report_of(run)
    metrics = [metric for metric in METRICS if report.final.of(metric) is not None]
    rows = [(step_words(point.step), *_cells(point.scores, metrics)) for point in report.curve]
    rows += [(name, *_cells(scores, metrics)) for name, scores in report.references.items()]
    if report.chance_accuracy:
        rows.append(("chance", *_cells(Scores(accuracy=Score(report.chance_accuracy)), metrics)))
    return TextTable(
        caption=f"Adaptation of {run.recipe_name}. {_sentence(protocol_words(report.protocol))} Mean and half-width "
        f"of the 95 % interval over tasks; weights: {one_line(report.weights)}.",
        headers=("inner step", *(_COLUMN_NAMES[metric] for metric in metrics)),
        is_number=(False, *(True for _ in metrics)),
        rows=tuple(rows),
        label=_label(run.recipe_name),
    )


def runs_text_table(runs: Sequence[RunEntry]) -> TextTable:
    """Return one row for each run; what all share of the protocol stands in the caption, the rest in a column."""
    reports = [_report_of(run) for run in runs]
    metrics = [metric for metric in METRICS[2:] if any(report.final.of(metric) is not None for report in reports)]
    protocols = [protocol_words(report.protocol) for report in reports]
    is_shared = len(set(protocols)) == 1
    changes = _changes(runs)
    columns: list[tuple[str, bool, list[str]]] = [("run", False, [one_line(run.path.name) for run in runs])]
    columns.append(("recipe", False, [run.recipe_name for run in runs]))
    if any(changes):
        columns.append(("keys", False, [text or "-" for text in changes]))
    if not is_shared:
        columns.append(("protocol", False, protocols))
    cells = [_cells(report.final, metrics) for report in reports]
    columns += [(_COLUMN_NAMES[metric], True, [row[n] for row in cells]) for n, metric in enumerate(metrics)]
    protocol = _sentence(protocols[0]) if is_shared else "The protocols differ, so that the numbers do not compare."
    return TextTable(
        caption=f"After adaptation. {protocol} Mean and half-width of the 95 % interval over tasks.",
        headers=tuple(name for name, _, _ in columns),
        is_number=tuple(is_number for _, is_number, _ in columns),
        rows=tuple(zip(*(cells for _, _, cells in columns), strict=True)),
        label="runs",
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _changes(runs: Sequence[RunEntry]) -> list[str]:
    """Return of each run the keys that tell it from its shipped recipe, or from others of the same name."""
    texts = []
    for run in runs:
        if run.manifest.get("recipe_name") in shipped_recipes():
            values = {key: here for key, (_, here) in changed_keys(run).items()}
        else:
            same = [other for other in runs if other.recipe_name == run.recipe_name]
            values = {key: found[run.folder] for key, found in recipe_differences(same, run).items()}
        texts.append(
            ", ".join(f"{k}={value_text(v)}" for k, v in values.items() if not k.startswith(_NOT_OF_THE_METHOD))
        )
    return texts


def _cells(scores: Scores, metrics: Sequence[str]) -> list[str]:
    return [
        with_interval(scores.of(metric), scale=PERCENT, digits=1)
        if metric.endswith("accuracy")
        else with_interval(scores.of(metric))
        for metric in metrics
    ]


def _label(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "run"


# Markdown --------------------------------------------------------------------------------------------------------

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~&#$!])")


def escape_markdown(text: str) -> str:
    """Return a text that Markdown (GitHub's, tables included) shows as it is, in one line."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", one_line(text))


def markdown(table: TextTable) -> str:
    """Return a table as GitHub Markdown, its caption below."""
    rows = [[escape_markdown(cell) for cell in row] for row in (table.headers, *table.rows)]
    rule = ["---:" if is_number else "---" for is_number in table.is_number]
    lines = ["| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:])]
    return "\n".join([*lines, "", escape_markdown(table.caption), ""])


# LaTeX -----------------------------------------------------------------------------------------------------------

_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"{\char34}", "±": r"$\pm$", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}",
    "[": "{[}", "]": "{]}",
}  # fmt: skip
_NUMBER = re.compile(r"-?[0-9.]+(e[+-][0-9]+)?( ± [0-9.]+(e[+-][0-9]+)?)?")

# What the fonts of every LaTeX have, with inputenc's utf8 and T1: ASCII, Latin-1's letters and Latin Extended-A.
_LATEX_LETTERS = (
    range(0x20, 0x7F), range(0xC0, 0xD7), range(0xD8, 0xF7), range(0xF8, 0x138), range(0x139, 0x149),
    range(0x14A, 0x166), range(0x168, 0x17F),
)  # fmt: skip

_PACKAGES = r"\usepackage{booktabs,textcomp}"


def escape_latex(text: str) -> str:
    """Return a text that LaTeX shows as it is, in one line; dashes and commas do not join to ligatures."""
    escaped = "".join(_LATEX_SPECIAL.get(char, char) for char in one_line(text))
    return re.sub(r"([-,])(?=\1)", r"\1{}", escaped)


def _latex_number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        return "--" if text == "-" else escape_latex(text)
    powers = re.sub(r"e([+-][0-9]+)", lambda found: rf" \times 10^{{{int(found[1])}}}", text)
    return f"${powers.replace('±', chr(92) + 'pm')}$"


def latex(table: TextTable) -> str:
    """Return a table as LaTeX (booktabs), to be put into a document; its first lines say what that needs."""
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
    """Return a long column's part of the line: what the short ones leave, some 90 letters in all."""
    num_long = sum(width > _LONG for width in widths)
    left = 1.0 - sum(width / 90 for width in widths if width <= _LONG) - 0.05 * len(widths)
    return max(0.15, left / num_long) if widths[column] > _LONG else 0.0


def _breakable(text: str) -> str:
    """Return an escaped cell whose long words (names, keys) may break after their punctuation."""
    escaped = escape_latex(text)
    return re.sub(r"(-|\\_|=|\.|/)(?!\{)", r"\1\\allowbreak{}", escaped) if len(text) > _LONG else escaped


def _latex_row(cells: Sequence[str], written: Sequence[Callable[[str], str]]) -> str:
    return " & ".join(write(cell) for write, cell in zip(written, cells, strict=True)) + r" \\"


def _foreign(text: str) -> set[str]:
    """Return the letters of a text that pdfLaTeX has no glyph for by itself."""
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
