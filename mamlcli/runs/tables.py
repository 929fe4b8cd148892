"""Shows runs in the terminal and as JSON: the list of them, and everything about one run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mamlcli.common.tables import PERCENT, duration, number_text, plain_table, sparkline, with_interval
from mamlcli.common.words import one_line
from mamlcli.runs.catalogue import changed_keys, recipe_base
from mamlcli.runs.curve import curve_table, verdict
from mamlcli.runs.entry import RunEntry, missing_packages, notices_of
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.manifest import Manifest
from mamlcli.runs.parts import part_words
from mamlcli.runs.training_curves import TrainingCurve, training_curves

SPARK_WIDTH = 20


_STATUS_WORDS = {
    "cut": "cut: killed while it ran; mamlcli train --resume --run-dir RUN goes on",
    "created": "created: made, and not trained; mamlcli train --resume --run-dir RUN begins",
    "interrupted": "interrupted: mamlcli train --resume --run-dir RUN goes on",
}


def age(seconds: float | None) -> str:
    """Return a time that has passed in words: `45 s`, `12 min`, `3.5 h` or `8 d`; `-` if it is not known."""
    if seconds is None:
        return "-"
    return duration(max(seconds, 0.0)) if seconds < 36 * 3600 else f"{seconds / 86400:.0f} d"


# The list ------------------------------------------------------------------------------------------------------


def runs_table(runs: Sequence[RunEntry], now: datetime | None = None) -> Table:
    """Return the list of runs as a table; the cells of a study stand under the name of their folder."""
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
        parent, _, last_name = run.name.rpartition("/") if run.name != run.where else ("", "", run.name)
        if parent != group:
            group = parent
            if parent:
                table.add_row(Text(f"{parent}/", style="dim"), "", "", "", "", "")
        name = f"  {last_name}" if parent else run.name
        cells = (
            _status(run),
            score_text(run),
            age(run.age_s(now)),
            "-" if run.wall_s is None else duration(run.wall_s),
        )
        table.add_row(Text(name), Text(run.recipe_name if run.manifest.recipe_name else "-"), *cells)
    return table


def _status(run: RunEntry) -> Text:
    if run.status == "needs":
        return Text(one_line(f"needs {', '.join(missing_packages(run.manifest))}"), style="red")
    style = {"damaged": "red", "failed": "red", "running": "green"}.get(run.status, "")
    is_partial = run.status in ("running", "cut", "interrupted") and run.num_iterations
    share = f" {100 * run.iteration // (run.num_iterations or 1)} %" if is_partial else ""
    return Text(f"{run.status}{share}", style=style)


def score_text(run: RunEntry) -> str:
    """Return the query accuracy in per cent after adaptation, of a regression the loss, with its interval."""
    accuracy = run.final("accuracy")
    if accuracy is not None:
        return f"{with_interval(accuracy, scale=PERCENT, digits=1)} %"
    return with_interval(run.final("loss"))


def problems_text(runs: Iterable[RunEntry]) -> Text | None:
    """Return why runs are damaged or failed, or what they need, one line each; None if no run is."""
    lines = [f"{run.name}: {run.status}: {run.reason}" for run in runs if run.status in ("damaged", "failed", "needs")]
    return Text("\n".join(lines)) if lines else None


def run_row(run: RunEntry, now: datetime | None = None) -> dict[str, object]:
    """Return a run's line of the list as JSON."""
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
        "started_at": run.manifest.started_at,
        "age_s": run.age_s(now),
        "wall_s": run.wall_s,
    }


# One run -------------------------------------------------------------------------------------------------------


def run_report(run: RunEntry) -> dict[str, object]:
    """Return everything about one run as JSON."""
    base = recipe_base(run)
    tree = None if run.recipe is None else run.recipe.model_dump(mode="json")
    changed = {} if base is None else changed_keys(run)
    return {
        **run_row(run),
        "recipe_base": None if base is None else base[0],
        "recipe_difference": {key: {"there": there, "here": here} for key, (there, here) in changed.items()},
        "recipe_keys": tree,
        "training": {name: curve.to_json() for name, curve in _training_curves(run).items()},
        "evaluation": None if run.report is None else run.report.to_json(),
        "notices": notices_of(run),
        "manifest": run.manifest.to_json(),
        "files": sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()),
    }


def _training_curves(run: RunEntry) -> dict[str, TrainingCurve]:
    return training_curves(RunDirectory(run.path).metrics_path)


def run_parts(run: RunEntry) -> list[RenderableType]:
    """Return everything about one run as parts to show: facts, recipe, curves and result."""
    parts: list[RenderableType] = [_facts(run), _recipe_part(run)]
    curves = _curves_table(run)
    if curves.row_count:
        parts.append(curves)
    if run.report is not None:
        # The name may have line ends in the report.
        parts += [curve_table(replace(run.report, recipe=run.recipe_name)), verdict(run.report)]
    return parts


def _facts(run: RunEntry) -> Group:
    """Return how a run stands and what its results depend on, a line each."""
    manifest = run.manifest
    rows = {
        "status": f"{run.status}{f': {run.reason}' if run.reason else ''}",
        "recipe": run.recipe_name,
        "iterations": f"{run.iteration} of {run.num_iterations}" if run.num_iterations else f"{run.iteration}",
        "started": f"{manifest.started_at}, {age(run.age_s())} ago" if manifest.started_at else None,
        "time": _time_and_memory(run),
        "resumed from": ", ".join(f"iteration {number}" for number in manifest.resumed_from),
        "changed": "; ".join(map(_change, manifest.changes)),
        "started from": _start(manifest),
        "earlier results": "; ".join(map(_earlier, manifest.earlier_results)),
        "parameters": _parameters(manifest),
        "seeds": None if manifest.seed is None else f"{manifest.seed}, of the evaluation {manifest.evaluation_seed}",
        "device": _device(manifest),
        "data": ", ".join(str(manifest.data[key]) for key in ("source", "digest") if manifest.data.get(key)),
        "versions": ", ".join(f"{name} {number}" for name, number in manifest.versions.items() if name != "platform"),
        "platform": manifest.versions.get("platform"),
        "git": _commit(manifest),
        "command": _command(manifest),
        **{f"part {number}": words for number, words in enumerate(part_words(manifest, run.iteration), start=1)},
        **{f"notice {number}": words for number, words in enumerate(notices_of(run), start=1)},
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(one_line(str(value))))
    return Group(Text(run.where, style="bold"), table)


def _time_and_memory(run: RunEntry) -> str:
    took = "-" if run.wall_s is None else duration(run.wall_s)
    memory = run.manifest.peak_memory_mb
    return f"{took}{f', {memory:,.0f} MB at most' if memory else ''}"


def _change(change: Mapping[str, object]) -> str:
    before, now = value_text(change.get("before")), value_text(change.get("now"))
    return f"{change.get('key')} from {before} to {now} at iteration {change.get('iteration')}"


def _start(manifest: Manifest) -> str | None:
    started = manifest.started_from
    if not started:
        return None
    digest = f", digest {started['digest']}" if started.get("digest") else ""
    return f"{started.get('run')}, {started.get('weights')}{digest}"


def _earlier(result: Mapping[str, object]) -> str:
    """Return an earlier result of a run that was trained for longer: after how many iterations, and its scores."""
    final = result.get("final")
    scores = final.items() if isinstance(final, dict) else ()
    means = [f"{metric} {number:.3f}" for metric, score in scores if (number := _mean(score)) is not None]
    return f"after {result.get('iterations')} iterations: {', '.join(means) or 'no scores'}"


def _mean(score: object) -> float | None:
    mean = score.get("mean") if isinstance(score, dict) else None
    return mean if isinstance(mean, float) else None


def _parameters(manifest: Manifest) -> str | None:
    if manifest.num_parameters is None:
        return None
    of_transform = manifest.num_transform_parameters
    return f"{manifest.num_parameters:,}" + (f", and {of_transform:,} of the transform" if of_transform else "")


def _device(manifest: Manifest) -> str | None:
    if manifest.device is None:
        return None
    threads, workers = manifest.execution.get("threads"), manifest.num_workers
    words = [
        manifest.device,
        manifest.execution.get("dtype"),
        f"{threads} thread{'s' * (threads != 1)}" if threads else None,
        f"{workers} workers" if workers != 1 else None,
    ]
    return ", ".join(str(word) for word in words if word)


def _commit(manifest: Manifest) -> str | None:
    if not manifest.git:
        return None
    return f"{str(manifest.git.get('commit'))[:12]}{', with changes' if manifest.git.get('is_dirty') else ''}"


def _command(manifest: Manifest) -> str:
    """Return the command line of the last start, the program without its folder."""
    program, arguments = manifest.argv[:1], manifest.argv[1:]
    return shlex.join([*map(os.path.basename, program), *arguments])


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
    curves: dict[str, tuple[str, Sequence[float]]] = {
        name: (f"iteration {curve.iteration[0]} to {curve.iteration[-1]}", curve.value)
        for name, curve in _training_curves(run).items()
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
