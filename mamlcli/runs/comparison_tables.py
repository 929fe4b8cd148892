"""Shows a comparison of runs as tables and sentences."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mamlcli.common.tables import PERCENT, plain_table, with_interval
from mamlcli.common.words import one_line
from mamlcli.runs.comparison import Differences, RunComparison
from mamlcli.runs.exports import protocol_words
from mamlcli.runs.tables import value_text


def letters(index: int) -> str:
    """Return the letters that stand for a run in tables: A, B, ..., Z, AA, AB, ..."""
    text = ""
    while index >= 0:
        index, text = index // 26 - 1, chr(ord("A") + index % 26) + text
    return text


def comparison_parts(result: RunComparison) -> list[RenderableType]:
    """Return a comparison as tables: scores and differences, then the keys in which the runs differ."""
    label = {row.run: letters(index) for index, row in enumerate(result.runs)}
    parts: list[RenderableType] = [_differences_table(result, label)]
    for pair in result.not_paired:
        words = f"{label[pair.a]} and {label[pair.b]} are compared unpaired, as independent samples of "
        parts.append(Text(f"{words}tasks: they differ in {', '.join(pair.reasons)}.", style="yellow"))
    if note := _batch_norm_note(result, label):
        parts.append(Text(note, style="yellow"))
    for row in result.comparisons:
        if row.num_overflowed:
            words = f"{label[row.a]} and {label[row.b]}: {row.metric} is not finite on {row.num_overflowed}"
            parts.append(Text(f"{words} tasks, and has no difference.", style="yellow"))
        if row.why_no_interval:
            words = f"{label[row.a]} minus {label[row.b]}: the difference in {row.metric} has no interval"
            parts.append(Text(f"{words}: {row.why_no_interval}.", style="yellow"))
    for run, found in result.notices.items():
        parts += [Text(f"{label[run]}: {words}.", style="yellow") for words in found]
    keys, rest = result.recipe_differences, result.other_differences
    if keys or rest:
        parts.append(_keys_table({**keys, **rest}, label))
    else:
        parts.append(Text("The recipes are the same."))
    return parts


def _differences_table(result: RunComparison, label: Mapping[str, str]) -> Table:
    has_accuracy = result.runs[0].report.has_accuracy
    base = label[result.baseline]
    above = _common_folder([row.run for row in result.runs])
    table = plain_table(_title(result, label), _caption(result, base))
    table.add_column("")
    table.add_column("run", overflow="fold")
    for name in ["query loss", f"minus {base}", *(["query %", f"minus {base}"] if has_accuracy else [])]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.runs:
        cells = [with_interval(row.report.final.loss), with_interval(result.difference(row.run, "loss"))]
        if has_accuracy:
            scores = row.report.final.accuracy, result.difference(row.run, "accuracy")
            cells += [with_interval(score, scale=PERCENT, digits=1) for score in scores]
        table.add_row(label[row.run], Text(one_line(row.run[len(above) :])), *cells)
    return table


def _title(result: RunComparison, label: Mapping[str, str]) -> str:
    """Return the protocol of the runs in words; those of other protocols stand with their letters."""
    runs_of: dict[str, list[str]] = {}
    for row in result.runs:
        runs_of.setdefault(protocol_words(row.report.protocol), []).append(label[row.run])
    if len(runs_of) == 1:
        return next(iter(runs_of))
    return "\n".join(f"{' '.join(runs)}: {words}" for words, runs in runs_of.items())


def _batch_norm_note(result: RunComparison, label: Mapping[str, str]) -> str | None:
    """Return what to know where the batch norms of runs take other statistics; None where all take the same."""
    runs_of: dict[str, list[str]] = {}
    for row in result.runs:
        statistics = row.report.protocol.batch_norm_statistics
        if statistics is not None:
            runs_of.setdefault(statistics, []).append(label[row.run])
    if len(runs_of) < 2:
        return None
    listed = ", ".join(f"{name} ({' '.join(runs)})" for name, runs in runs_of.items())
    return (
        f"The runs differ in evaluation.batch_norm: {listed}. With joint the other query images of a task help to "
        "classify each one; with support they do not."
    )


def _common_folder(paths: Sequence[str]) -> str:
    """Return the folders that all paths begin with, as text with a slash at its end."""
    parts = [path.split("/")[:-1] for path in paths]
    shared = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
    return "".join(f"{names[0]}/" for names in shared)


def _caption(result: RunComparison, base: str) -> str:
    nums = sorted({row.num_pairs for row in result.comparisons if row.num_pairs is not None})
    paired = f"paired on the same {' or '.join(map(str, nums))} tasks" if nums else "unpaired"
    num_others = len(result.runs) - 1
    several = f"; not adjusted for {num_others} comparisons" if num_others > 1 else ""
    return (
        f"after the last inner step; mean ± half-width of the 95 % interval over tasks\n"
        f"minus {base}: {paired}{several}\nother training seeds would change it, too: that is not in the interval"
    )


def _keys_table(rows: Differences, label: Mapping[str, str]) -> Table:
    """Return the keys that differ, with each value and the runs that have it."""
    table = plain_table()
    table.add_column("differs in", overflow="fold")
    table.add_column("value (runs)", overflow="fold")
    for key, values in rows.items():
        runs_with: dict[str, list[str]] = {}
        for run, value in values.items():
            runs_with.setdefault(value_text(value), []).append(label[run])
        table.add_row(key, Text(", ".join(f"{text} ({' '.join(runs)})" for text, runs in runs_with.items())))
    return table
