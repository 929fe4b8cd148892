"""Records -> rich renderables. Accuracies become per cent here and nowhere else."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from mamlcli.statistics import Score

PERCENT = 100.0
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 40


def plain_table(title: str | None = None, caption: str | None = None) -> Table:
    """Return an empty table in the style of all tables here; it fits 80 columns and pastes as text."""
    return Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        caption_style="dim",
        pad_edge=False,
    )


def with_interval(value: Score | Mapping[str, float | None] | None, *, scale: float = 1.0, digits: int = 3) -> str:
    """Return `mean ± half-width`, or `-` where there is no number.

    Args:
        value: a score, or one as results in JSON hold it.
        scale: what both numbers are multiplied by.
        digits: decimals.
    """
    if isinstance(value, Mapping):
        value = Score(value["mean"], value.get("ci95_over_tasks", value.get("ci95_over_seeds"))) if value else None
    if value is None or value.mean is None:
        return "-"
    text = _decimal(scale * value.mean, digits)
    return text if value.ci95 is None else f"{text} ± {_decimal(scale * value.ci95, digits)}"


def sparkline(
    values: Sequence[float], width: int = SPARK_WIDTH, *, low: float | None = None, high: float | None = None
) -> str:
    """Return a curve in one line of text; longer ones are averaged, a dot stands where no number is finite.

    Args:
        values: the curve.
        width: characters at most.
        low: value of the lowest block; by default the smallest one.
        high: value of the highest block; by default the largest one.
    """
    buckets = _averaged(values, width)
    finite = [value for value in buckets if math.isfinite(value)]
    bottom = low if low is not None else min(finite, default=0.0)
    top = high if high is not None else max(finite, default=0.0)
    scale = 1.0 / (top - bottom) if top > bottom else 0.0
    shares = (min(max((value - bottom) * scale, 0.0), 1.0) if math.isfinite(value) else None for value in buckets)
    return "".join("·" if share is None else SPARKS[round(share * (len(SPARKS) - 1))] for share in shares)


def _averaged(values: Sequence[float], width: int) -> list[float]:
    num = min(len(values), width)
    edges = [round(index * len(values) / num) for index in range(num + 1)] if num else []
    groups = [[v for v in values[a:b] if math.isfinite(v)] for a, b in itertools.pairwise(edges)]
    return [sum(group) / len(group) if group else math.nan for group in groups]


def curve_means(points: Sequence[dict[str, Any]], metric: str) -> list[float]:
    """Return the mean of a metric at every inner step; NaN where it overflowed."""
    return [math.nan if point[metric]["mean"] is None else float(point[metric]["mean"]) for point in points]


def curve_line(report: dict[str, Any]) -> str:
    """Return the query curve of an evaluation in one line: the first number, a block for each step, the last one.

    Accuracies are drawn on a scale of 0 to 100 %, losses from 0 to the largest.
    """
    metric = "accuracy" if "accuracy" in report["final"] else "loss"
    scale, digits, unit = (PERCENT, 1, " %") if metric == "accuracy" else (1.0, 3, "")
    means = curve_means(report["curve"], metric)
    first, last = (with_interval(p[metric] | {"ci95_over_tasks": None}, scale=scale, digits=digits)
                   for p in (report["curve"][0], report["curve"][-1]))  # fmt: skip
    blocks = sparkline(means, low=0.0, high=1.0 if metric == "accuracy" else None)
    return f"Query {metric} by inner step: {first} {blocks} {last}{unit}"


def _decimal(value: float, digits: int) -> str:
    # Losses of an inner loop that diverges have dozens of digits, and would push the rest off the table.
    return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.1e}"


def curve_table(report: dict[str, Any]) -> Table:
    """Return the adaptation curve of an evaluation as a table, with its floors and baselines below.

    Args:
        report: the content of evaluation.json.
    """
    protocol = report["protocol"]
    has_accuracy = "accuracy" in report["final"]
    title = (
        f"{report['recipe']}: adaptation on {protocol['num_tasks']} {protocol['split']} tasks\n"
        f"{task_words(protocol)}; batch norm: {batch_norm_words(protocol['batch_norm'])}"
    )
    table = plain_table(title, f"mean ± half-width of the 95 % interval over tasks\nweights: {report['weights']}")
    table.add_column("inner step", justify="right")
    for name in _columns(has_accuracy):
        table.add_column(name, justify="right", no_wrap=True)
    for point in report["curve"]:
        label = "0 (before)" if point["step"] == 0 else str(point["step"])
        table.add_row(label, *_cells(point, has_accuracy))
    if report["references"] or report.get("chance_accuracy"):
        table.add_section()
    for name, values in report["references"].items():
        table.add_row(name, *_cells(values, has_accuracy), style="dim")
    if report.get("chance_accuracy"):
        table.add_row("chance", *_cells({"accuracy": {"mean": report["chance_accuracy"]}}, True), style="dim")
    return table


def task_words(protocol: Mapping[str, Any]) -> str:
    """Return what one task is, in words; images count per class, points of synthetic tasks in all."""
    if protocol["per_class"]:
        return f"{protocol['ways']}-way {protocol['shots']}-shot, {protocol['queries']} queries per class"
    return f"{protocol['shots']} support and {protocol['queries']} query points"


def batch_norm_words(norm: str) -> str:
    """Return what the norm key means for a result."""
    return {"batch": "batch statistics (transductive)"}.get(norm, norm)


def _columns(has_accuracy: bool) -> list[str]:
    if not has_accuracy:
        return ["support loss", "query loss"]
    return ["support loss", "support %", "query loss", "query %"]


def _cells(point: dict[str, Any], has_accuracy: bool) -> list[str]:
    losses = [with_interval(point.get(key)) for key in ("support_loss", "loss")]
    if not has_accuracy:
        return losses
    accuracies = [with_interval(point.get(key), scale=PERCENT, digits=1) for key in ("support_accuracy", "accuracy")]
    return [losses[0], accuracies[0], losses[1], accuracies[1]]


def verdict(report: dict[str, Any]) -> str:
    """Return in one or two sentences what adaptation reached, and how far that is above what."""
    final, before, protocol = report["final"], report["curve"][0], report["protocol"]
    steps = f"{final['step']} inner step{'s' if final['step'] != 1 else ''}"
    where = f"on {protocol['num_tasks']} {protocol['split']} tasks"
    if "accuracy" not in final:
        reached = "overflowed" if final["loss"]["mean"] is None else with_interval(final["loss"])
        text = f"Query loss {reached} after {steps} {where}, from {_mean(before['loss'])}."
        floors = [f"{name} {_mean(values['loss'])}" for name, values in report["references"].items()]
        return text + (f" Floors: {', '.join(floors)}." if floors else "")
    value = PERCENT * final["accuracy"]["mean"]
    above = [f"{value - PERCENT * before['accuracy']['mean']:.1f} above the network before adaptation"]
    for name, values in report["references"].items():
        difference = value - PERCENT * values["accuracy"]["mean"]
        above.append(f"{abs(difference):.1f} {'above' if difference >= 0 else 'below'} {name}")
    chance = PERCENT * report["chance_accuracy"]
    return (
        f"Query accuracy {with_interval(final['accuracy'], scale=PERCENT, digits=1)} % after {steps} {where}: "
        f"{value - chance:.1f} points above chance ({chance:.0f} %), {', '.join(above)}."
    )


def _mean(value: dict[str, float | None]) -> str:
    return with_interval({"mean": value["mean"]})


def cost_text(cost: dict[str, Any], num_iterations: int) -> str:
    """Return the cost of a dry run in words."""
    how = cost["execution"]
    transform = cost["num_transform_parameters"]
    extra = f" and {transform:,} of the transform" if transform else ""
    total = cost["training_s"] + cost["evaluation_s"]
    memory = f", about {cost['peak_memory_mb']:,.0f} MB of memory" if cost["peak_memory_mb"] else ""
    return (
        f"{cost['num_parameters']:,} parameters{extra}. On {cost['device']}, {how['path']} with {how['chunk']} tasks "
        f"at a time and {how['threads']} threads: {1000 * cost['seconds_per_iteration']:.0f} ms a meta-iteration; "
        f"{num_iterations:,} of them with their validations {duration(cost['training_s'])}, the evaluation "
        f"{duration(cost['evaluation_s'])}; about {duration(total)} in all{memory} (measured on a few "
        "meta-iterations; nothing was written)."
    )


def duration(seconds: float) -> str:
    """Return a duration in the unit that fits: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
