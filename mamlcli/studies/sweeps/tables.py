"""The tables of a study are made here from its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from rich.table import Table

from mamlcli.common.statistics import Score
from mamlcli.common.tables import PERCENT, plain_table, sparkline, with_interval
from mamlcli.runs.curve import batch_norm_words, task_words
from mamlcli.runs.report import Protocol
from mamlcli.studies.sweeps.cell_result import CellResult
from mamlcli.studies.sweeps.result import StudyResult, advantages_at_each_depth
from mamlcli.studies.sweeps.scores import GridValue, StudyScores, Value

AXIS_WORDS = {
    "model.depth": "depth",
    "model.linear_layers": "layers added",
    "inner.transform.name": "optimizer",
    "model.depth x inner.transform.name": "depth, optimizer",
}

# More curves than these do not fit beside each other in 80 columns.
_MOST_CURVES_WITH_INTERVALS = 5
_MOST_CURVES = 9
_CURVE_WIDTH = 12  # characters of a curve in blocks


def study_tables(result: StudyResult) -> list[Table]:
    """Return the tables of a study: values, the grid where there is one, curves, paired differences."""
    if not result.cells:
        return []
    is_grid = result.is_grid
    tables = [value_table(result)]
    if is_grid:
        tables += [grid_table(result), advantage_table(result)]
    else:
        if len(result.cells) <= _MOST_CURVES:
            tables.append(curves_table(result))
        if result.comparisons:
            tables.append(comparison_table(result))
    return tables


def value_label(value: Value) -> str:
    """Return an axis value in words."""
    return f"{value.depth}, {value.optimizer}" if isinstance(value, GridValue) else str(value)


def number(value: Score | None, metric: str) -> str:
    """Return a mean with its half-width, in per cent for accuracies."""
    if metric == "accuracy":
        return with_interval(value, scale=PERCENT, digits=1)
    return with_interval(value)


def interval_words(result: StudyResult) -> str:
    """Return what the intervals of a result are over."""
    num = len(result.seeds)
    if num > 1:
        fewer = [f"{value_label(c.value)}: {len(c.seeds)}" for c in result.cells if len(c.seeds) != num]
        exceptions = f" ({'; '.join(fewer)})" if fewer else ""
        over = " (trainings and tasks, not classes)" if result.tasks else ""
        return f"mean ± half-width of the 95 % interval over {num} seeds{over}{exceptions}{_without_interval(result)}"
    num_tasks = protocol_of(result).num_tasks
    return f"one seed; ± half-width of the 95 % interval over {num_tasks} tasks{_without_interval(result)}"


def _without_interval(result: StudyResult) -> str:
    """Return why some of a result's numbers have no interval, in words; nothing where all have one."""
    scores = [score for cell in result.cells for score in cell.final.values.values()]
    scores += [comparison.difference for comparison in result.comparisons]
    is_without = any(score is not None and score.mean is not None and score.ci95 is None for score in scores)
    return f"; none where all {'seeds' if len(result.seeds) > 1 else 'tasks'} are the same" if is_without else ""


def protocol_of(result: StudyResult) -> Protocol:
    """Return the protocol of a result with at least one cell."""
    assert result.protocol is not None, "a result with cells has a protocol"
    return result.protocol


def value_table(result: StudyResult) -> Table:
    """Return one line for each axis value, with the references below."""
    protocol, cells = protocol_of(result), result.cells
    metric, has_capacity = result.main_metric, any(cell.capacity for cell in cells)
    has_collapse = any(cell.collapse for cell in cells)
    has_transform = any(cell.num_transform_parameters for cell in cells)
    title = (
        f"{result.study}: {result.recipe}, after {protocol.inner_steps} inner steps on "
        f"{protocol.num_tasks} {protocol.split} tasks\n{task_words(protocol)}; "
        f"batch norm: {batch_norm_words(protocol)}"
    )
    table = plain_table(title, "\n".join(_notes(result)))
    table.add_column(AXIS_WORDS[result.axis])
    if result.inner_lr_is_chosen:
        table.add_column("inner lr", justify="right")
    table.add_column("parameters", justify="right", overflow="fold")
    if has_collapse:
        table.add_column("collapsed", justify="right")
    if has_transform:
        table.add_column("of U", justify="right")
    table.add_column("loss", justify="right", no_wrap=True)
    if metric == "accuracy":
        table.add_column("accuracy %", justify="right", no_wrap=True)
    if has_capacity:
        table.add_column("alone %" if metric == "accuracy" else "alone", justify="right", no_wrap=True)
    for cell in cells:
        row = [value_label(cell.value)]
        row += [f"{cell.inner_lr:g}"] if result.inner_lr_is_chosen else []
        row += [f"{cell.num_parameters:,}"]
        row += [f"{cell.collapse.num_parameters:,}" if cell.collapse else "-"] if has_collapse else []
        row += [f"{cell.num_transform_parameters:,}"] if has_transform else []
        row += [number(cell.final.of("loss"), "loss")]
        row += [number(cell.final.of("accuracy"), "accuracy")] if metric == "accuracy" else []
        row += [number(cell.capacity.scores.of(metric), metric) if cell.capacity else "-"] if has_capacity else []
        table.add_row(*row)
    _add_references(table, result, metric, has_capacity)
    return table


def _add_references(table: Table, result: StudyResult, metric: str, has_capacity: bool) -> None:
    """Add floors, baselines and closed forms below the axis values."""
    num_between = len(table.columns) - 2 - (metric == "accuracy") - has_capacity
    lines = dict(result.references)
    alone: Mapping[str, StudyScores] = next((cell.capacity.references for cell in result.cells if cell.capacity), {})
    if result.chance_accuracy is not None:
        lines["chance"] = StudyScores({"accuracy": Score(result.chance_accuracy)}, None)
    for name, value in closed_form_lines(result):
        lines[name] = StudyScores({"loss": value}, None)
    if lines:
        table.add_section()
    for name, values in lines.items():
        row = [name, *[""] * num_between, number(values.of("loss"), "loss")]
        row += [number(values.of("accuracy"), "accuracy")] if metric == "accuracy" else []
        row += [number(alone[name].of(metric), metric) if name in alone else ""] if has_capacity else []
        table.add_row(*row, style="dim")


def closed_form_lines(result: StudyResult) -> list[tuple[str, Score]]:
    """Return the closed forms of linear regression, each in words with its value."""
    forms = result.closed_form
    if forms is None:
        return []
    lines = [
        ("1 layer, endless support", Score(forms.shallow_infinite_support)),
        ("1 layer from 0", forms.shallow_from_zero),
        ("best U, 1 step", Score(forms.preconditioned_one_step)),
    ]
    if forms.inner_steps == 1:
        lines.insert(1, ("1 layer from 0, exact", Score(forms.shallow_one_step)))
    return lines


def _notes(result: StudyResult) -> list[str]:
    notes = [interval_words(result)]
    if len(result.seeds) > 1 and any(scores.over == "tasks" for scores in result.references.values()):
        notes[0] += " (of references: over tasks)"
    if result.inner_lr_is_chosen:
        notes.append("inner lr: chosen on meta-validation tasks, for each line by itself")
        if at_edge := [value_label(cell.value) for cell in result.cells if is_at_edge(cell)]:
            notes.append(
                f"inner lr of {', '.join(at_edge)}: chosen at the edge of --inner-lrs: a wider list may be fairer"
            )
    if diverged := [
        f"{value_label(c.value)}: {PERCENT * c.diverged_tasks:.2g} %" for c in result.cells if c.diverged_tasks
    ]:
        notes.append(
            f"tasks that diverged (query loss not finite, or above ten times that before): {'; '.join(diverged)}"
        )
    if several := [f"{name} {' and '.join(found)}" for name, found in result.versions.items() if len(found) > 1]:
        notes.append(f"cells were made by different versions: {'; '.join(several)}")
    capacity = next((cell.capacity for cell in result.cells if cell.capacity), None)
    if capacity is not None:
        per_class = " per class" if protocol_of(result).per_class else ""
        notes.append(
            f"alone: without meta-learning, each of {capacity.num_tasks} of the tasks learned by itself from "
            f"{capacity.shots} examples{per_class} (± over tasks); the lines below show the same there"
        )
        short = [value_label(cell.value) for cell in result.cells if _is_cut(cell)]
        if short:
            notes.append(f"not every task of 'alone' had converged at {', '.join(short)}")
    if result.closed_form:
        notes.append(
            "1 layer, endless support: closed form of the best shallow model; from 0: its best start, measured "
            "(Monte Carlo); best U: one step of one layer with the best gradient transform, closed form"
        )
    if any(cell.collapse for cell in result.cells):
        notes.append("collapsed: parameters after multiplying the linear layers into one")
    if any(cell.num_transform_parameters for cell in result.cells):
        notes.append("of U: parameters of the gradient transform")
    if not result.inner_lr_is_chosen:
        rates = ", ".join(f"{rate:g}" for rate in sorted({cell.inner_lr for cell in result.cells}))
        notes.append(f"inner lr: {rates} for every line; --inner-lrs LIST chooses one for each by meta-validation")
    if result.started_from:
        notes.append(f"every line starts from {result.started_from}, 0 is that run trained on")
        if len(result.seeds) > 1:
            notes.append("all seeds share that start: the intervals leave out how much starts vary")
    return notes


def is_at_edge(cell: CellResult) -> bool:
    """Return whether a cell's inner learning rate is the smallest or largest of those it was chosen from."""
    rates = [candidate.inner_lr for candidate in cell.candidates]
    return len(rates) > 1 and cell.inner_lr in (min(rates), max(rates))


def _is_cut(cell: CellResult) -> bool:
    return cell.capacity is not None and cell.capacity.num_converged < cell.capacity.num_tasks


def curves_table(result: StudyResult) -> Table:
    """Return the query metric at every inner step, a column for each axis value."""
    metric, cells = result.main_metric, result.cells
    unit = "accuracy %" if metric == "accuracy" else "loss"
    table = plain_table(f"query {unit} at each inner step")
    table.add_column("step", justify="right")
    for cell in cells:
        table.add_column(value_label(cell.value), justify="right")
    with_intervals = len(cells) <= _MOST_CURVES_WITH_INTERVALS
    for step, _ in enumerate(cells[0].curve):
        points = [cell.curve[step].scores.values[metric] for cell in cells]
        shown = points if with_intervals else [Score(point.mean) for point in points]
        table.add_row(str(step), *(number(point, metric) for point in shown))
    curves = [[point.scores.mean(metric) for point in cell.curve] for cell in cells]
    # One scale for all, so that blocks of one height are the same number.
    finite = [value for curve in curves for value in curve if math.isfinite(value)]
    high = 1.0 if metric == "accuracy" else max(finite, default=0.0)
    width = _CURVE_WIDTH if with_intervals else _CURVE_WIDTH // 2
    table.add_section()
    table.add_row("", *(sparkline(curve, width, low=0.0, high=high) for curve in curves))
    table.caption = f"blocks: 0 to {f'{PERCENT * high:.0f} %' if metric == 'accuracy' else f'{high:.3g}'}"
    return table


def comparison_table(result: StudyResult) -> Table:
    """Return the paired differences, one line for each pair."""
    over = "seed by seed" if len(result.seeds) > 1 else "task by task"
    table = plain_table(f"differences, {over}", "mean ± half-width of the 95 % interval; * excludes zero")
    table.add_column(AXIS_WORDS[result.axis])
    metrics = [m for m in ("loss", "accuracy") if any(c.metric == m for c in result.comparisons)]
    for metric in metrics:
        table.add_column("accuracy, points" if metric == "accuracy" else "loss", justify="right")
    pairs: dict[tuple[str, str], dict[str, Score]] = {}
    for comparison in result.comparisons:
        key = (value_label(comparison.a), value_label(comparison.b))
        pairs.setdefault(key, {})[comparison.metric] = comparison.difference
    for (a, b), differences in pairs.items():
        table.add_row(f"{a} minus {b}", *(difference_text(differences.get(m), m) for m in metrics))
    return table


def difference_text(value: Score | None, metric: str) -> str:
    """Return a signed difference with its half-width, and a star where the interval excludes zero."""
    if value is None or value.mean is None:
        return "-"
    text = number(value, metric)
    text = text if value.mean < 0 else f"+{text}"
    return f"{text} *" if is_clear(value) else f"{text}  "


def is_clear(value: Score) -> bool:
    """Return whether a difference's interval excludes zero; false without an interval."""
    return value.mean is not None and value.ci95 is not None and abs(value.mean) > value.ci95


def grid_table(result: StudyResult) -> Table:
    """Return the metric of a depth x optimizer grid, a line for each optimizer and a column for each depth."""
    metric = result.main_metric
    title = "accuracy % after adaptation" if metric == "accuracy" else "loss after adaptation"
    cells = {(cell.grid.optimizer, cell.grid.depth): cell.final.values[metric] for cell in result.cells}
    return _grid(title, cells, lambda value: number(value, metric))


def advantage_table(result: StudyResult) -> Table:
    """Return each optimizer's paired difference to the first one at the same depth."""
    metric = result.main_metric
    advantages = {
        (advantage.optimizer, advantage.depth): advantage.difference
        for advantage in advantages_at_each_depth(result, metric)
    }
    first = result.cells[0].grid.optimizer
    unit = "accuracy, points" if metric == "accuracy" else "loss"
    table = _grid(
        f"advantage over {first} at the same depth ({unit})", advantages, lambda v: difference_text(v, metric)
    )
    table.caption = "paired; mean ± half-width of the 95 % interval; * excludes zero"
    return table


def _grid(title: str, cells: Mapping[tuple[str, int], Score], show: Callable[[Score | None], str]) -> Table:
    table = plain_table(title)
    table.add_column("optimizer")
    depths = sorted({depth for _, depth in cells})
    for depth in depths:
        table.add_column(f"depth {depth}", justify="right")
    for optimizer in dict.fromkeys(optimizer for optimizer, _ in cells):
        table.add_row(optimizer, *(show(cells.get((optimizer, depth))) for depth in depths))
    return table
