"""The report of `mamlcli layers` is shown in tables that fit 80 columns."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mamlcli.common.tables import PERCENT, plain_table, with_interval
from mamlcli.engine.evaluation import Array
from mamlcli.runs.curve import batch_norm_words, task_words
from mamlcli.studies.layers.optimum import OptimumReport
from mamlcli.studies.layers.results import CollapseReport, LayersReport, OperatorReport, over_tasks


def layer_parts(report: LayersReport) -> list[RenderableType]:
    """Return what to show, in order: titles, tables, and sentences; no line is longer than 80 characters.

    Args:
        report: of a run.
    """
    protocol, operator = report.protocol, report.operator
    num_steps = protocol.inner_steps
    parts: list[RenderableType] = [
        Text(f"{report.recipe}, weights: {report.weights}"),
        Text(f"{task_words(protocol)}; {num_steps} inner step{'s' if num_steps != 1 else ''}"),
        Text(f"batch norm: {batch_norm_words(protocol)}"),
        Text(f"± is the 95 % half-width over {protocol.num_tasks} {protocol.split} tasks\n"),
        *_section(
            "1. How far each layer moves",
            _movement_table(report),
            "size: norm of the layer's parameters before adaptation",
        ),
        *_section(
            "2. Query scores when only some layers may move",
            _partial_table(report),
            "lower i: the first i layers from the input; upper i: the last i",
        ),
        Text("3. What the other layers of a linear head do to a layer's gradient", style="bold"),
    ]
    if operator is not None and (len(operator.layers) > 1 or operator.transform != "none"):
        parts += _section(None, _operator_table(operator), _OPERATOR_NOTE)
    if report.operator_note:
        parts.append(Text(f"{report.operator_note}\n"))
    if operator is not None and operator.optimum is not None:
        explained = operator.optimum.all_steps_explained
        fitted = "" if explained is None else f"\nall inner steps: a fit, explains {PERCENT * explained:.1f} %"
        parts += _section(
            "Distance to the best operator of these tasks", _optimum_table(operator.optimum), _OPTIMUM_NOTE + fitted
        )
    title = "4. The bottom layers' update: in the full network, and through a head alone"
    if report.bottom:
        parts += _section(title, _bottom_table(report), _BOTTOM_NOTE)
    else:
        parts += [Text(title, style="bold"), Text("There is one layer, and nothing above it.\n")]
    return [*parts, Text(collapse_text(report.collapse))] if report.collapse else parts


_OPERATOR_NOTE = """\
a gradient G of the collapsed head becomes left G right: largest and smallest
eigenvalue of left (from the layers above) and of right (from those below)
share: of the layer in the first-order movement of the collapsed head"""

_OPTIMUM_NOTE = """\
distance: relative Frobenius norm, in coordinates where inputs are white
shape: the distance after rescaling by scale, the best factor
loss: expected query loss after one single step with the operator"""

_BOTTOM_NOTE = """\
head alone: least squares from the bottom's features to the full outputs
explained: of these outputs, by it; length ratio: full network / head alone
rank: of the features (and 1, with a bias); where it is full and all layers
above are linear, angle 0 and ratio 1 by construction"""


def _section(title: str | None, table: Table, note: str) -> list[RenderableType]:
    heading = [] if title is None else [Text(title, style="bold")]
    return [*heading, table, Text(f"{note}\n", style="dim")]


def collapse_text(collapse: CollapseReport) -> str:
    """Return in words whether the collapsed models give the same outputs."""
    is_same = collapse.max_relative_difference <= collapse.tolerance
    return (
        f"Collapsed into one layer, the adapted heads give {'the same' if is_same else 'OTHER'} outputs: largest "
        f"difference {collapse.max_difference:.1e}, {collapse.max_relative_difference:.1e} of the largest "
        f"output ({collapse.tolerance:.0e} allowed); {collapse.num_parameters:,} parameters become "
        f"{collapse.num_parameters_collapsed:,}."
    )


def _movement_table(report: LayersReport) -> Table:
    table = plain_table()
    table.add_column("layer", no_wrap=True)
    for name in ("parameters", "size", "distance", "distance / size"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.movement:
        count = f"{row.num_parameters:,}" if row.num_adapted else f"{row.num_parameters:,} (fixed)"
        table.add_row(
            row.layer,
            count,
            f"{row.size:.3f}",
            with_interval(over_tasks(row.distance)),
            with_interval(over_tasks(row.relative)),
        )
    return table


def _partial_table(report: LayersReport) -> Table:
    rows = {(row.part, row.num_layers): row for row in report.partial}
    num_layers = len(report.movement)
    has_accuracy = report.partial[0].accuracy is not None
    table = plain_table()
    table.add_column("i", justify="right")
    for part in ("lower", "upper"):
        table.add_column(f"{part} i: loss", justify="right", no_wrap=True)
        if has_accuracy:
            table.add_column("%", justify="right", no_wrap=True)
    for num in range(num_layers + 1):
        label = {0: "0 (none)", num_layers: f"{num} (all)"}.get(num, str(num))
        cells = []
        for part in ("lower", "upper"):
            row = rows[part, num]
            cells.append(with_interval(over_tasks(row.loss.value)))
            if row.accuracy is not None:
                cells.append(with_interval(over_tasks(row.accuracy.value), scale=PERCENT, digits=1))
        table.add_row(label, *cells)
    return table


def _operator_table(operator: OperatorReport) -> Table:
    table = plain_table()
    table.add_column("layer", no_wrap=True)
    for name in ("share %", "left: largest", "smallest", "right: largest", "smallest"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in operator.layers:
        ends = (*_ends(layer.left_spectrum), *_ends(layer.right_spectrum))
        table.add_row(layer.layer, f"{PERCENT * layer.share:.1f}", *ends)
    if operator.spectrum is not None:
        what = "all" if operator.transform == "none" else f"all, {operator.transform}"
        largest, smallest = _ends(operator.spectrum)
        table.add_section()
        table.add_row(what, "100.0", "", "", largest, smallest)
    return table


def _ends(spectrum: Array) -> tuple[str, str]:
    return f"{spectrum[0]:.3g}", f"{spectrum[-1]:.3g}"


OPERATOR_WORDS = {
    "plain": "plain gradient at its best rate",
    "one_step": "this run, first inner step",
    "all_steps": "this run, all inner steps",
    "optimal": "best operator of one step",
}


def _optimum_table(optimum: OptimumReport) -> Table:
    table = plain_table()
    table.add_column("operator", no_wrap=True)
    for name in ("distance", "shape", "scale", "loss"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, words in OPERATOR_WORDS.items():
        row = optimum.comparisons[name]
        if row is not None:
            numbers = (row.distance, row.distance_scaled, row.scale, row.loss)
            table.add_row(words, *(f"{number:.3f}" for number in numbers))
    return table


def _bottom_table(report: LayersReport) -> Table:
    table = plain_table()
    table.add_column("bottom layers", no_wrap=True)
    for name in ("features", "rank", "explained %", "angle °", "length ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.bottom:
        explained = "-" if row.explained is None else f"{PERCENT * row.explained:.1f}"
        names = row.layers[0] if row.num_layers == 1 else f"{row.layers[0]} … {row.layers[-1]}"
        table.add_row(
            names,
            str(row.num_features),
            str(row.rank),
            explained,
            with_interval(over_tasks(row.angle_deg), digits=1),
            with_interval(over_tasks(row.length_ratio)),
        )
    return table
