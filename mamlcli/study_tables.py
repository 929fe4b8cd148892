"""A study's machine-readable result -> rich tables and sentences; a saved result shows as a fresh one."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

from mamlcli.tables import PERCENT, batch_norm_words, curve_means, plain_table, sparkline, task_words, with_interval

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


def study_tables(result: dict[str, Any]) -> list[Table]:
    """Return the tables of a study: values, the grid where there is one, curves, paired differences."""
    if not result["cells"]:
        return []
    is_grid = isinstance(result["cells"][0]["value"], dict)
    tables = [value_table(result)]
    if is_grid:
        tables += [grid_table(result), advantage_table(result)]
    else:
        if len(result["cells"]) <= _MOST_CURVES:
            tables.append(curves_table(result))
        if result["comparisons"]:
            tables.append(comparison_table(result))
    return tables


def main_metric(result: dict[str, Any]) -> str:
    """Return `accuracy`, or `loss` for regression."""
    return "accuracy" if "accuracy" in result["cells"][0] else "loss"


def value_label(value: Any) -> str:
    """Return an axis value in words."""
    return f"{value['depth']}, {value['optimizer']}" if isinstance(value, dict) else str(value)


def number(value: dict[str, float | None] | None, metric: str) -> str:
    """Return a mean with its half-width, in per cent for accuracies."""
    if metric == "accuracy":
        return with_interval(value, scale=PERCENT, digits=1)
    return with_interval(value)


def interval_words(result: dict[str, Any]) -> str:
    """Return what the intervals of a result are over."""
    num = len(result["seeds"])
    if num > 1:
        fewer = [f"{value_label(c['value'])}: {len(c['seeds'])}" for c in result["cells"] if len(c["seeds"]) != num]
        exceptions = f" ({'; '.join(fewer)})" if fewer else ""
        return f"mean ± half-width of the 95 % interval over {num} seeds{exceptions}"
    return f"one seed; ± half-width of the 95 % interval over {result['protocol']['num_tasks']} tasks"


def value_table(result: dict[str, Any]) -> Table:
    """Return one line for each axis value, with the references below."""
    protocol, cells = result["protocol"], result["cells"]
    metric, has_capacity = main_metric(result), any("capacity" in cell for cell in cells)
    has_collapse = any("num_parameters_collapsed" in cell for cell in cells)
    has_transform = any(cell["num_transform_parameters"] for cell in cells)
    title = (
        f"{result['study']}: {result['recipe']}, after {protocol['inner_steps']} inner steps on "
        f"{protocol['num_tasks']} {protocol['split']} tasks\n{task_words(protocol)}; "
        f"batch norm: {batch_norm_words(protocol['batch_norm'])}"
    )
    table = plain_table(title, "\n".join(_notes(result)))
    table.add_column(AXIS_WORDS[result["axis"]])
    if result["inner_lr_is_chosen"]:
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
        row = [value_label(cell["value"])]
        row += [f"{cell['inner_lr']:g}"] if result["inner_lr_is_chosen"] else []
        row += [f"{cell['num_parameters']:,}"]
        row += [f"{cell['num_parameters_collapsed']:,}"] if has_collapse else []
        row += [f"{cell['num_transform_parameters']:,}"] if has_transform else []
        row += [number(cell["loss"], "loss")]
        row += [number(cell["accuracy"], "accuracy")] if metric == "accuracy" else []
        row += [number(cell["capacity"].get(metric), metric) if "capacity" in cell else "-"] if has_capacity else []
        table.add_row(*row)
    _add_references(table, result, metric, has_capacity)
    return table


def _add_references(table: Table, result: dict[str, Any], metric: str, has_capacity: bool) -> None:
    """Add floors, baselines and closed forms below the axis values."""
    num_between = len(table.columns) - 2 - (metric == "accuracy") - has_capacity
    lines: dict[str, dict[str, Any]] = dict(result.get("references", {}))
    alone: dict[str, Any] = next((cell["capacity"]["references"] for cell in result["cells"] if "capacity" in cell), {})
    if "chance_accuracy" in result:
        lines["chance"] = {"accuracy": {"mean": result["chance_accuracy"]}}
    for name, value in closed_form_lines(result):
        lines[name] = {"loss": value}
    if lines:
        table.add_section()
    for name, values in lines.items():
        row = [name, *[""] * num_between, number(values.get("loss"), "loss")]
        row += [number(values.get("accuracy"), "accuracy")] if metric == "accuracy" else []
        row += [number(alone[name].get(metric), metric) if name in alone else ""] if has_capacity else []
        table.add_row(*row, style="dim")


def closed_form_lines(result: dict[str, Any]) -> list[tuple[str, dict[str, float | None]]]:
    """Return the closed forms of linear regression, each in words with its value."""
    found = result.get("closed_form")
    if found is None:
        return []
    lines = [
        ("1 layer, endless support", {"mean": found["shallow_infinite_support"]}),
        ("1 layer from 0", found["shallow_from_zero"]),
        ("best U, 1 step", {"mean": found["preconditioned_one_step"]}),
    ]
    if found["inner_steps"] == 1:
        lines.insert(1, ("1 layer from 0, exact", {"mean": found["shallow_one_step"]}))
    return lines


def _notes(result: dict[str, Any]) -> list[str]:
    notes = [interval_words(result)]
    if len(result["seeds"]) > 1 and _have_intervals_over_tasks(result.get("references", {})):
        notes[0] += " (of references: over tasks)"
    if result["inner_lr_is_chosen"]:
        notes.append("inner lr: chosen on meta-validation tasks, for each line by itself")
        if at_edge := [value_label(cell["value"]) for cell in result["cells"] if is_at_edge(cell)]:
            notes.append(
                f"inner lr of {', '.join(at_edge)}: chosen at the edge of --inner-lrs: a wider list may be fairer"
            )
    capacity: dict[str, Any] = next((cell["capacity"] for cell in result["cells"] if "capacity" in cell), {})
    if capacity:
        per_class = " per class" if result["protocol"]["per_class"] else ""
        notes.append(
            f"alone: without meta-learning, each of {capacity['num_tasks']} of the tasks learned by itself from "
            f"{capacity['shots']} examples{per_class} (± over tasks); the lines below show the same there"
        )
        short = [value_label(cell["value"]) for cell in result["cells"] if _is_cut(cell)]
        if short:
            notes.append(f"not every task of 'alone' had converged at {', '.join(short)}")
    if result.get("closed_form"):
        notes.append(
            "1 layer, endless support: closed form of the best shallow model; from 0: its best start, measured "
            "(Monte Carlo); best U: one step of one layer with the best gradient transform, closed form"
        )
    if any("num_parameters_collapsed" in cell for cell in result["cells"]):
        notes.append("collapsed: parameters after multiplying the linear layers into one")
    if any(cell["num_transform_parameters"] for cell in result["cells"]):
        notes.append("of U: parameters of the gradient transform")
    if not result["inner_lr_is_chosen"]:
        rates = ", ".join(f"{rate:g}" for rate in sorted({cell["inner_lr"] for cell in result["cells"]}))
        notes.append(f"inner lr: {rates} for every line; --inner-lrs LIST chooses one for each by meta-validation")
    if result["started_from"]:
        notes.append(f"every line starts from {result['started_from']}, 0 is that run trained on")
        if len(result["seeds"]) > 1:
            notes.append("all seeds share that start: the intervals leave out how much starts vary")
    return notes


def _have_intervals_over_tasks(references: dict[str, Any]) -> bool:
    return any("ci95_over_tasks" in value for values in references.values() for value in values.values())


def is_at_edge(cell: dict[str, Any]) -> bool:
    """Return whether a cell's inner learning rate is the smallest or largest of those it was chosen from."""
    rates = [candidate["inner_lr"] for candidate in cell.get("inner_lr_candidates", [])]
    return len(rates) > 1 and cell["inner_lr"] in (min(rates), max(rates))


def _is_cut(cell: dict[str, Any]) -> bool:
    return "capacity" in cell and bool(cell["capacity"]["num_converged"] < cell["capacity"]["num_tasks"])


def curves_table(result: dict[str, Any]) -> Table:
    """Return the query metric at every inner step, a column for each axis value."""
    metric, cells = main_metric(result), result["cells"]
    unit = "accuracy %" if metric == "accuracy" else "loss"
    table = plain_table(f"query {unit} at each inner step")
    table.add_column("step", justify="right")
    for cell in cells:
        table.add_column(value_label(cell["value"]), justify="right")
    with_intervals = len(cells) <= _MOST_CURVES_WITH_INTERVALS
    for step, _ in enumerate(cells[0]["curve"]):
        points = [cell["curve"][step][metric] for cell in cells]
        shown = points if with_intervals else [{"mean": point["mean"]} for point in points]
        table.add_row(str(step), *(number(point, metric) for point in shown))
    curves = [curve_means(cell["curve"], metric) for cell in cells]
    # One scale for all, so that blocks of one height are the same number.
    finite = [value for curve in curves for value in curve if math.isfinite(value)]
    high = 1.0 if metric == "accuracy" else max(finite, default=0.0)
    width = _CURVE_WIDTH if with_intervals else _CURVE_WIDTH // 2
    table.add_section()
    table.add_row("", *(sparkline(curve, width, low=0.0, high=high) for curve in curves))
    table.caption = f"blocks: 0 to {f'{PERCENT * high:.0f} %' if metric == 'accuracy' else f'{high:.3g}'}"
    return table


def comparison_table(result: dict[str, Any]) -> Table:
    """Return the paired differences, one line for each pair."""
    over = "seed by seed" if len(result["seeds"]) > 1 else "task by task"
    table = plain_table(f"differences, {over}", "mean ± half-width of the 95 % interval; * excludes zero")
    table.add_column(AXIS_WORDS[result["axis"]])
    metrics = [m for m in ("loss", "accuracy") if any(c["metric"] == m for c in result["comparisons"])]
    for metric in metrics:
        table.add_column("accuracy, points" if metric == "accuracy" else "loss", justify="right")
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for found in result["comparisons"]:
        key = (value_label(found["a"]), value_label(found["b"]))
        pairs.setdefault(key, {})[found["metric"]] = found["difference"]
    for (a, b), differences in pairs.items():
        table.add_row(f"{a} minus {b}", *(difference_text(differences.get(m), m) for m in metrics))
    return table


def difference_text(value: dict[str, float | None] | None, metric: str) -> str:
    """Return a signed difference with its half-width, and a star where the interval excludes zero."""
    if not value or value["mean"] is None:
        return "-"
    text = number(value, metric)
    text = text if value["mean"] < 0 else f"+{text}"
    return f"{text} *" if is_clear(value) else f"{text}  "


def is_clear(value: dict[str, float | None]) -> bool:
    """Return whether a difference's interval excludes zero; false without an interval."""
    mean, width = value["mean"], value.get("ci95_over_seeds", value.get("ci95_over_tasks"))
    return mean is not None and width is not None and abs(mean) > width


def grid_table(result: dict[str, Any]) -> Table:
    """Return the metric of a depth x optimizer grid, a line for each optimizer and a column for each depth."""
    metric = main_metric(result)
    title = "accuracy % after adaptation" if metric == "accuracy" else "loss after adaptation"
    cells = {(cell["value"]["optimizer"], cell["value"]["depth"]): cell[metric] for cell in result["cells"]}
    return _grid(title, cells, lambda value: number(value, metric))


def advantage_table(result: dict[str, Any]) -> Table:
    """Return each optimizer's paired difference to the first one at the same depth."""
    metric = main_metric(result)
    found = {
        (comparison["a"]["optimizer"], comparison["a"]["depth"]): comparison["difference"]
        for comparison in result["comparisons"]
        if comparison["metric"] == metric and comparison["a"]["depth"] == comparison["b"]["depth"]
    }
    first = result["cells"][0]["value"]["optimizer"]
    unit = "accuracy, points" if metric == "accuracy" else "loss"
    table = _grid(f"advantage over {first} at the same depth ({unit})", found, lambda v: difference_text(v, metric))
    table.caption = "paired; mean ± half-width of the 95 % interval; * excludes zero"
    return table


def _grid(title: str, cells: dict[tuple[str, int], Any], show: Any) -> Table:
    table = plain_table(title)
    table.add_column("optimizer")
    depths = sorted({depth for _, depth in cells})
    for depth in depths:
        table.add_column(f"depth {depth}", justify="right")
    for optimizer in dict.fromkeys(optimizer for optimizer, _ in cells):
        table.add_row(optimizer, *(show(cells.get((optimizer, depth))) for depth in depths))
    return table


# Sentences -----------------------------------------------------------------------------------------------------


def study_verdict(result: dict[str, Any]) -> str:
    """Return in a few sentences what a study shows, with its numbers."""
    if len(result["cells"]) == 0:
        return "No cell has finished."
    if len(result["cells"]) == 1:
        return "One axis value alone: nothing to compare."
    if isinstance(result["cells"][0]["value"], dict):
        return _grid_verdict(result)
    sentences = [_best_sentence(result)]
    if result["study"] == "add-linear":
        sentences.append(collapse_sentence(result))
    return " ".join(sentences)


def _best_sentence(result: dict[str, Any]) -> str:
    """Say which value is best and how far it is from the first."""
    metric, cells = main_metric(result), [c for c in result["cells"] if c[main_metric(result)]["mean"] is not None]
    if not cells:
        return "No value has a finite score."
    sign = 1 if metric == "accuracy" else -1
    best = max(cells, key=lambda cell: sign * cell[metric]["mean"])
    words, first = AXIS_WORDS[result["axis"]], result["cells"][0]
    unit = " %" if metric == "accuracy" else ""
    choice = _choice_words(len(cells))
    text = f"Best{choice}: {words} {value_label(best['value'])}, {metric} {number(best[metric], metric)}{unit}"
    difference = next(
        (
            c["difference"] for c in result["comparisons"]
            if c["metric"] == metric and c["a"] == best["value"] and c["b"] == first["value"]
        ),
        None,
    )  # fmt: skip
    if difference is None:
        return f"{text}, the first value."
    clear = "its interval excludes zero" if is_clear(difference) else "which its interval does not tell from zero"
    points = " points" if metric == "accuracy" else ""
    shown = difference_text(difference, metric).rstrip(" *")
    return f"{text}; {shown}{points} against {words} {value_label(first['value'])}, paired, {clear}."


def _choice_words(num: int) -> str:
    """Say that the best of several was chosen by the scores that are shown; its score is then too good."""
    return f" of {num} on meta-test, not corrected for the choice" if num > 1 else ""


def collapse_sentence(result: dict[str, Any]) -> str:
    """Say how far the collapsed models are from their stacks."""
    cell = max(result["cells"], key=lambda cell: float(cell["collapse"]["largest_relative_difference"]))
    found = cell["collapse"]
    verdict = "the same outputs" if agrees(cell) else "OTHER outputs"
    return (
        f"Collapsed into one layer after adaptation, every model gives {verdict}: the largest difference on "
        f"{found['num_tasks']} tasks is {found['largest_relative_difference']:.1e} of the largest output "
        f"(allowed: {found['tolerance']:.0e})."
    )


def agrees(cell: dict[str, Any]) -> bool:
    """Return whether a cell's collapsed models give the same outputs as its stacks, up to rounding."""
    found = cell["collapse"]
    return bool(found["largest_relative_difference"] <= found["tolerance"])


def _grid_verdict(result: dict[str, Any]) -> str:
    metric = main_metric(result)
    first = result["cells"][0]["value"]["optimizer"]
    sign = 1 if metric == "accuracy" else -1
    best: dict[int, tuple[float, str, dict[str, Any]]] = {}
    for c in result["comparisons"]:
        mean = c["difference"]["mean"]
        if c["metric"] != metric or c["a"]["depth"] != c["b"]["depth"] or mean is None:
            continue
        entry = (sign * mean, c["a"]["optimizer"], c["difference"])
        best[c["a"]["depth"]] = max(best.get(c["a"]["depth"], entry), entry, key=lambda e: e[0])
    if not best:
        return "Nothing to compare."
    parts = [
        f"{difference_text(difference, metric).rstrip(' *')} at depth {depth} ({name})"
        for depth, (_, name, difference) in sorted(best.items())
    ]
    unit = "accuracy points" if metric == "accuracy" else "loss"
    choice = _choice_words(len({cell["value"]["optimizer"] for cell in result["cells"]}) - 1)
    best_of = f" (best{choice})" if choice else ""
    return f"The best advantage over {first}, in {unit}{best_of}: {', '.join(parts)}."
