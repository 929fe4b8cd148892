"""Runs -> rich renderables: the list, one run, a comparison. Imports no torch."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mamlcli.common.errors import RunError
from mamlcli.common.tables import PERCENT, duration, number_text, plain_table, sparkline, with_interval
from mamlcli.common.words import one_line
from mamlcli.runs.catalogue import changed_keys, recipe_base
from mamlcli.runs.curve import curve_table, verdict
from mamlcli.runs.entry import RunEntry
from mamlcli.runs.folder import RunDirectory

SPARK_WIDTH = 20


_STATUS_WORDS = {
    "cut": "cut: killed while it ran; mamlcli train --resume --run-dir RUN goes on",
    "created": "created: made, and not trained; mamlcli train --resume --run-dir RUN begins",
    "interrupted": "interrupted: mamlcli train --resume --run-dir RUN goes on",
}


def age(seconds: float | None) -> str:
    """Return a time that has passed, as `45 s`, `12 min`, `3.5 h`, `8 d`; `-` if it is not known."""
    if seconds is None:
        return "-"
    return duration(max(seconds, 0.0)) if seconds < 36 * 3600 else f"{seconds / 86400:.0f} d"


# The list ------------------------------------------------------------------------------------------------------


def runs_table(runs: Sequence[RunEntry], now: datetime | None = None) -> Table:
    """Return the list of runs; those in a folder of their own, as the cells of a study, under its name."""
    present = {run.status for run in runs}
    notes = ["query: accuracy in %, for regression the loss; ± half-width of the 95 % interval over tasks"]
    notes += [words for status, words in _STATUS_WORDS.items() if status in present]
    table = plain_table(caption="\n".join(notes))
    for name in ("run", "recipe"):
        table.add_column(name, overflow="fold")
    table.add_column("status")
    for name in ("query", "age", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    now, group = now or datetime.now(timezone.utc), ""
    for run in runs:
        parent, _, own = run.name.rpartition("/") if run.name != run.where else ("", "", run.name)
        if parent != group:
            group = parent
            if parent:
                table.add_row(Text(f"{parent}/", style="dim"), "", "", "", "", "")
        name = f"  {own}" if parent else run.name
        cells = (_status(run), _score(run), age(run.age_s(now)), "-" if run.wall_s is None else duration(run.wall_s))
        table.add_row(Text(name), Text(run.recipe_name if "recipe_name" in run.manifest else "-"), *cells)
    return table


def _status(run: RunEntry) -> Text:
    style = {"damaged": "red", "failed": "red", "running": "green"}.get(run.status, "")
    is_partial = run.status in ("running", "cut", "interrupted") and run.num_iterations
    share = f" {100 * run.iteration // (run.num_iterations or 1)} %" if is_partial else ""
    return Text(f"{run.status}{share}", style=style)


def _score(run: RunEntry) -> str:
    accuracy = run.final("accuracy")
    if accuracy is not None:
        return f"{with_interval(accuracy, scale=PERCENT, digits=1)} %"
    return with_interval(run.final("loss"))


def problems_text(runs: Iterable[RunEntry]) -> Text | None:
    """Return why runs are damaged or failed, one line each; None if none is."""
    lines = [f"{run.name}: {run.status}: {run.reason}" for run in runs if run.status in ("damaged", "failed")]
    return Text("\n".join(lines)) if lines else None


def run_row(run: RunEntry, now: datetime | None = None) -> dict[str, Any]:
    """Return one line of the list in machine-readable form."""
    accuracy, loss = run.final("accuracy"), run.final("loss")
    return {
        "run": run.folder,
        "name": run.name,
        "recipe": run.recipe_name,
        "status": run.status,
        "reason": run.reason,
        "iteration": run.iteration,
        "num_iterations": run.num_iterations,
        "accuracy": None if accuracy is None else accuracy.to_json(),
        "loss": None if loss is None else loss.to_json(),
        "started_at": run.manifest.get("started_at"),
        "age_s": run.age_s(now),
        "wall_s": run.wall_s,
    }


# One run -------------------------------------------------------------------------------------------------------


def run_report(run: RunEntry) -> dict[str, Any]:
    """Return everything about one run in machine-readable form."""
    base = recipe_base(run)
    tree = None if run.recipe is None else run.recipe.model_dump(mode="json")
    changed = {} if base is None else changed_keys(run)
    return {
        **run_row(run),
        "recipe_base": None if base is None else base[0],
        "recipe_difference": {key: {"there": there, "here": here} for key, (there, here) in changed.items()},
        "recipe_keys": tree,
        "training": training_curves(run),
        "evaluation": None if run.report is None else run.report.to_json(),
        "manifest": run.manifest,
        "files": sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()),
    }


def training_curves(run: RunEntry) -> dict[str, dict[str, list[Any]]]:
    """Return what the metrics tell of meta-training: {name: {"iteration": [...], "value": [...]}}."""
    curves: dict[str, dict[str, list[Any]]] = {}
    names = {"step": {"outer_loss": "outer loss", "accuracy": "outer accuracy"}}
    names["validation"] = {"loss": "meta-validation loss", "accuracy": "meta-validation accuracy"}
    try:
        records = RunDirectory(run.path).read_metrics()
    except RunError:
        return {}
    for record in records:
        for key, name in names.get(str(record.get("kind")), {}).items():
            if isinstance(record.get(key), int | float):
                curve = curves.setdefault(name, {"iteration": [], "value": []})
                curve["iteration"].append(record["iteration"])
                curve["value"].append(record[key])
    return curves


def run_parts(run: RunEntry) -> list[RenderableType]:
    """Return everything about one run: how it stands, its recipe, its curves, its result, its environment."""
    parts: list[RenderableType] = [_facts(run), _recipe_part(run)]
    curves = _curves_table(run)
    if curves.row_count:
        parts.append(curves)
    if run.report is not None:
        # A name is no markup and has no line ends here.
        parts += [curve_table(replace(run.report, recipe=escape(run.recipe_name))), verdict(run.report)]
    return parts


def _facts(run: RunEntry) -> Group:
    manifest, versions = run.manifest, run.manifest.get("versions", {})
    took = "-" if run.wall_s is None else duration(run.wall_s)
    memory = manifest.get("peak_memory_mb")
    data, git = manifest.get("data", {}), manifest.get("git")
    rows = {
        "status": f"{run.status}{f': {run.reason}' if run.reason else ''}",
        "recipe": run.recipe_name,
        "iterations": f"{run.iteration} of {run.num_iterations}" if run.num_iterations else f"{run.iteration}",
        "started": f"{manifest['started_at']}, {age(run.age_s())} ago" if "started_at" in manifest else None,
        "time": f"{took}{f', {memory:,.0f} MB at most' if memory else ''}",
        "resumed from": ", ".join(f"iteration {number}" for number in manifest.get("resumed_from", [])),
        "parameters": _parameters(manifest),
        "seeds": f"{manifest['seed']}, of the evaluation {manifest.get('evaluation_seed')}"
        if "seed" in manifest
        else None,
        "device": _device(manifest),
        "data": ", ".join(str(data[key]) for key in ("source", "digest") if data.get(key)),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items() if name != "platform"),
        "platform": versions.get("platform"),
        "git": f"{git['commit'][:12]}{', with changes' if git.get('is_dirty') else ''}" if git else None,
        "command": shlex.join([os.path.basename(word) if not n else word for n, word in enumerate(manifest["argv"])])
        if manifest.get("argv")
        else None,
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(one_line(str(value))))
    return Group(Text(run.where, style="bold"), table)


def _parameters(manifest: Mapping[str, Any]) -> str | None:
    if "num_parameters" not in manifest:
        return None
    of_transform = manifest.get("num_transform_parameters")
    return f"{manifest['num_parameters']:,}" + (f", and {of_transform:,} of the transform" if of_transform else "")


def _device(manifest: Mapping[str, Any]) -> str | None:
    how = manifest.get("execution", {})
    if "device" not in manifest:
        return None
    threads, workers = how.get("threads"), how.get("workers", 1)
    words = [
        manifest["device"],
        how.get("dtype"),
        f"{threads} thread{'s' * (threads != 1)}" if threads else None,
        f"{workers} workers" if workers != 1 else None,
    ]
    return ", ".join(str(word) for word in words if word)


def _recipe_part(run: RunEntry) -> RenderableType:
    base = recipe_base(run)
    if base is None:
        return Text("The recipe cannot be read.")
    changed = changed_keys(run)
    if not changed:
        return Text(f"\nThe recipe is {base[0]}, unchanged.")
    table = plain_table()
    for name in ("key", "there", "here"):
        table.add_column(name, overflow="fold")
    for key, (there, here) in changed.items():
        table.add_row(key, Text(value_text(there)), Text(value_text(here)))
    return Group(Text(f"\nKeys that differ from {base[0]}:"), table)


def value_text(value: object) -> str:
    """Return a recipe's value as YAML would have it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return one_line(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _curves_table(run: RunEntry) -> Table:
    """Return the curves of training and adaptation as sparklines, each with its first and last number."""
    curves = {
        name: (f"iteration {curve['iteration'][0]} to {curve['iteration'][-1]}", curve["value"])
        for name, curve in training_curves(run).items()
    }
    for metric in ("loss", "accuracy"):
        if run.report is not None and run.final(metric) is not None:
            curves[f"query {metric}"] = f"inner step 0 to {run.report.curve[-1].step}", run.report.means(metric)
    table = plain_table()
    table.add_column("curve")
    table.add_column("from", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("to", justify="right", no_wrap=True)
    table.add_column("over", style="dim")
    for name, (span, values) in curves.items():
        scale, digits = (PERCENT, 1) if "accuracy" in name else (1.0, 3)
        first, last = (number_text(value, scale=scale, digits=digits) for value in (values[0], values[-1]))
        label = f"{name} %" if "accuracy" in name else name
        table.add_row(label, first, sparkline(values, SPARK_WIDTH), last, span)
    return table
