"""Shows an adaptation curve as a table, as a line of blocks, and in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.table import Table

from mamlcli.common.statistics import Score
from mamlcli.common.tables import PERCENT, duration, number_text, plain_table, sparkline, with_interval
from mamlcli.runs.report import Protocol, RunReport, Scores


def curve_line(report: RunReport) -> str:
    """Return the query curve in one line: the first number, a block for each inner step, the last number.

    Accuracies are drawn on a scale of 0 to 100 %, losses from 0 to the largest.
    """
    metric = "accuracy" if report.has_accuracy else "loss"
    scale, digits, unit = (PERCENT, 1, " %") if metric == "accuracy" else (1.0, 3, "")
    means = report.means(metric)
    first, last = (number_text(mean, scale=scale, digits=digits) for mean in (means[0], means[-1]))
    blocks = sparkline(means, low=0.0, high=1.0 if metric == "accuracy" else None)
    return f"Query {metric} by inner step: {first} {blocks} {last}{unit}"


def curve_table(report: RunReport) -> Table:
    """Return the adaptation curve of an evaluation as a table, with the references below it."""
    protocol = report.protocol
    title = (
        f"{report.recipe}: adaptation on {protocol.num_tasks} {protocol.split} tasks\n"
        f"{task_words(protocol)}; batch norm: {batch_norm_words(protocol)}"
    )
    interval = "mean ± half-width of the 95 % interval over tasks; none where all tasks score the same"
    caption = [interval, f"weights: {report.weights}", *report.notes]
    table = plain_table(title, "\n".join(caption))
    table.add_column("inner step", justify="right")
    for name in _columns(report.has_accuracy):
        table.add_column(name, justify="right", no_wrap=True)
    for point in report.curve:
        table.add_row(step_words(point.step), *_cells(point.scores, report.has_accuracy))
    if report.references or report.chance_accuracy:
        table.add_section()
    for name, scores in report.references.items():
        table.add_row(name, *_cells(scores, report.has_accuracy), style="dim")
    if report.chance_accuracy:
        table.add_row("chance", *_cells(Scores(accuracy=Score(report.chance_accuracy)), True), style="dim")
    return table


def step_words(step: int) -> str:
    """Return the name of a point of the adaptation curve."""
    return str(step) if step else "0 (before)"


def task_words(protocol: Protocol | Mapping[str, object]) -> str:
    """Return the size of a task in words; images are counted per class, points of synthetic tasks in all.

    Args:
        protocol: of a report, as a type or as JSON.
    """
    keys = protocol.to_json() if isinstance(protocol, Protocol) else protocol
    if keys["per_class"]:
        queries = f"{keys['queries']} {'query' if keys['queries'] == 1 else 'queries'}"
        return f"{keys['ways']}-way {keys['shots']}-shot, {queries} per class"
    return f"{keys['shots']} support and {keys['queries']} query points"


def batch_norm_words(protocol: Protocol) -> str:
    """Return in words what the recipe keys `model.norm` and `evaluation.batch_norm` mean for a result."""
    if protocol.batch_norm != "batch":
        return protocol.batch_norm
    if protocol.batch_norm_statistics == "support":
        return "statistics of the support set (not transductive)"
    return "batch statistics (transductive)"


def _columns(has_accuracy: bool) -> list[str]:
    if not has_accuracy:
        return ["support loss", "query loss"]
    return ["support loss", "support %", "query loss", "query %"]


def _cells(scores: Scores, has_accuracy: bool) -> list[str]:
    losses = [with_interval(scores.support_loss), with_interval(scores.loss)]
    if not has_accuracy:
        return losses
    accuracies = [with_interval(score, scale=PERCENT, digits=1) for score in (scores.support_accuracy, scores.accuracy)]
    return [losses[0], accuracies[0], losses[1], accuracies[1]]


def verdict(report: RunReport) -> str:
    """Return sentences that say what adaptation reached and how far above chance and references that is."""
    steps = report.curve[-1].step
    where = f"after {steps} inner step{'s' * (steps != 1)} on {report.protocol.num_tasks} {report.protocol.split} tasks"
    return _accuracy_verdict(report, where) if report.has_accuracy else _loss_verdict(report, where)


def _loss_verdict(report: RunReport, where: str) -> str:
    final, before = report.final, report.curve[0].scores
    reached = with_interval(final.loss) if math.isfinite(final.mean("loss")) else "overflowed"
    text = f"Query loss {reached} {where}, from {number_text(before.mean('loss'))}."
    references = [f"{name} {number_text(scores.mean('loss'))}" for name, scores in report.references.items()]
    return text + (f" References: {', '.join(references)}." if references else "")


def _accuracy_verdict(report: RunReport, where: str) -> str:
    value = PERCENT * report.final.mean("accuracy")
    before = PERCENT * report.curve[0].scores.mean("accuracy")
    above = [f"{value - before:.1f} above the network before adaptation"]
    for name, scores in report.references.items():
        difference = value - PERCENT * scores.mean("accuracy")
        above.append(f"{abs(difference):.1f} {'above' if difference >= 0 else 'below'} {name}")
    chance = PERCENT * (report.chance_accuracy or 0.0)
    return (
        f"Query accuracy {with_interval(report.final.accuracy, scale=PERCENT, digits=1)} % {where}: "
        f"{value - chance:.1f} points above chance ({chance:.0f} %), {', '.join(above)}."
    )


def cost_text(cost: Mapping[str, object], num_iterations: int) -> str:
    """Return in words what a dry run measured.

    Args:
        cost: the JSON form of training's `RunCost`.
        num_iterations: meta-iterations of the whole run.
    """
    how = cost["execution"]
    assert isinstance(how, Mapping)
    numbers = {key: value for key, value in cost.items() if isinstance(value, int | float)}
    transform, megabytes = numbers["num_transform_parameters"], numbers.get("peak_memory_mb")
    extra = f" and {transform:,} of the transform" if transform else ""
    memory = f", about {megabytes:,.0f} MB of memory" if megabytes else ""
    training_s, evaluation_s = numbers["training_s"], numbers["evaluation_s"]
    threads = f"{how['threads']} thread{'s' * (how['threads'] != 1)}"
    return (
        f"{numbers['num_parameters']:,} parameters{extra}. On {cost['device']}, {how['path']} with {how['chunk']} "
        f"tasks at a time and {threads}: {1000 * numbers['seconds_per_iteration']:.0f} ms a "
        f"meta-iteration; {num_iterations:,} of them with their validations {duration(training_s)}, the evaluation "
        f"{duration(evaluation_s)}; about {duration(training_s + evaluation_s)} in all{memory} (measured on a few "
        "meta-iterations; nothing was written)."
    )
