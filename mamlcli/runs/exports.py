"""Exports finished runs as text for papers and programs: CSV, JSON, Markdown and LaTeX.

One run is exported as its adaptation curve, several as one row each. CSV and JSON hold plain numbers (accuracies as
fractions). Markdown and LaTeX are for readers: per cent, mean and interval, and the protocol in the caption.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mamlcli.common.files import json_text
from mamlcli.common.names import PATH_KEY
from mamlcli.common.published import published_names, published_path
from mamlcli.common.statistics import Score
from mamlcli.common.tables import PERCENT, with_interval
from mamlcli.common.words import one_line, printable
from mamlcli.recipe.files import recipe_to_tree, shipped_recipes
from mamlcli.recipe.places import with_published_path
from mamlcli.runs.catalogue import changed_keys
from mamlcli.runs.comparison import check_finished, recipe_differences
from mamlcli.runs.curve import batch_norm_words, step_words, task_words
from mamlcli.runs.entry import RunEntry
from mamlcli.runs.report import Protocol, RunReport, Scores
from mamlcli.runs.tables import run_row, value_text
from mamlcli.runs.text_tables import TextTable, latex, latex_document, markdown

SUFFIXES = {"csv": ".csv", "json": ".json", "markdown": ".md", "latex": ".tex"}


_METRICS = ("support_loss", "support_accuracy", "loss", "accuracy")


# Keys that say how a run was computed or scored, not what was trained; the protocol says how it was scored.
_NOT_OF_THE_METHOD = ("execution.", "evaluation.", "logging")


_COLUMN_NAMES = {
    "support_loss": "support loss",
    "support_accuracy": "support accuracy (%)",
    "loss": "query loss",
    "accuracy": "query accuracy (%)",
}


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
        records = [run_record(run, name) for run, name in zip(runs, _names(runs), strict=True)]
        return json_text(records[0] if len(runs) == 1 else records)
    if form == "csv":
        several = [flat_row(run, name) for run, name in zip(runs, _names(runs), strict=True)]
        return _csv(curve_rows(runs[0]) if len(runs) == 1 else several)
    table = curve_text_table(runs[0]) if len(runs) == 1 else runs_text_table(runs)
    if form == "markdown":
        return markdown(table)
    return latex_document(table) if is_standalone else latex(table)


def _names(runs: Sequence[RunEntry]) -> list[str]:
    """Return what runs are called in an export: no path of one machine."""
    return published_names([run.folder for run in runs])


def _published(key: str, value: object) -> object:
    """Return the value of a recipe key as others may read it."""
    return published_path(value) if key == PATH_KEY and isinstance(value, str) else value


# Plain numbers ---------------------------------------------------------------------------------------------------


def run_record(run: RunEntry, name: str) -> dict[str, object]:
    """Return a run as JSON: its line of the list, its whole recipe and its result.

    Args:
        run: finished.
        name: what it is called.
    """
    report = replace(_report_of(run), run=name)
    assert run.recipe is not None
    keys = recipe_to_tree(with_published_path(run.recipe))
    return {**run_row(run), "run": name, "name": name, "recipe_keys": keys, "evaluation": report.to_json()}


def curve_rows(run: RunEntry) -> list[dict[str, object]]:
    """Return the adaptation curve as rows, one for each inner step and each reference."""
    report = _report_of(run)
    points = [(point.step, point.scores) for point in report.curve]
    return [{"inner_step": name, **_numbers(scores)} for name, scores in (*points, *report.references.items())]


def flat_row(run: RunEntry, name: str) -> dict[str, object]:
    """Return a run as one row: the name given, its result, its protocol, and the recipe keys that it changes."""
    report = _report_of(run)
    assert run.recipe is not None
    protocol = {f"protocol_{key}": value for key, value in report.protocol.to_json().items()}
    changed = " ".join(f"{k}={value_text(_published(k, here))}" for k, (_, here) in changed_keys(run).items())
    return {
        "run": name,
        "recipe": run.recipe_name,
        "status": run.status,
        "seed": run.recipe.seed,
        **_numbers(report.final),
        **protocol,
        "weights": report.weights,
        "num_parameters": run.manifest.num_parameters,
        "wall_s": run.wall_s,
        "changed_keys": changed,
    }


def _report_of(run: RunEntry) -> RunReport:
    assert run.report is not None, "a finished run has a report"
    return run.report


def _numbers(scores: Scores) -> dict[str, float | None]:
    """Return scores as columns `<metric>_mean` and `<metric>_ci95_over_tasks`."""
    numbers: dict[str, float | None] = {}
    for metric in _METRICS:
        if (score := scores.of(metric)) is not None:
            name = metric if metric.startswith("support") else f"query_{metric}"
            numbers |= {f"{name}_{key}": value for key, value in score.to_json().items()}
    return numbers


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: printable(v) if isinstance(v, str) else v for key, v in row.items()} for row in rows)
    return out.getvalue()


# Tables for readers ----------------------------------------------------------------------------------------------


def protocol_words(protocol: Protocol) -> str:
    """Return a whole protocol in words, for a caption."""
    steps = protocol.inner_steps
    return (
        f"{task_words(protocol)}; {steps} inner step{'s' * (steps != 1)}; {protocol.num_tasks} "
        f"{protocol.split} tasks of evaluation seed {protocol.seed}; "
        f"batch norm: {batch_norm_words(protocol)}"
    )


def curve_text_table(run: RunEntry) -> TextTable:
    """Return the adaptation curve of one run as a table for readers."""
    report = _report_of(run)
    metrics = [metric for metric in _METRICS if report.final.of(metric) is not None]
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
    """Return a table with one row for each run; a protocol that all share stands in the caption."""
    reports = [_report_of(run) for run in runs]
    metrics = [metric for metric in _METRICS[2:] if any(report.final.of(metric) is not None for report in reports)]
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
    """Return for each run the recipe keys that it changes, or in which runs of its recipe differ."""
    texts = []
    for run in runs:
        if run.manifest.recipe_name in shipped_recipes():
            values = {key: here for key, (_, here) in changed_keys(run).items()}
        else:
            same = [other for other in runs if other.recipe_name == run.recipe_name]
            values = {key: of_runs[run.folder] for key, of_runs in recipe_differences(same, run).items()}
        texts.append(
            ", ".join(
                f"{k}={value_text(_published(k, v))}" for k, v in values.items() if not k.startswith(_NOT_OF_THE_METHOD)
            )
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
