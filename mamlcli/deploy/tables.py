"""This module shows predictions as a table, and below it how they were made and how certain they are."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from mamlcli.common.statistics import Proportion
from mamlcli.common.tables import PERCENT, plain_table, with_interval
from mamlcli.common.words import shown
from mamlcli.deploy.report import ImagePrediction, ImageSet, LeaveOneOut, PredictionReport
from mamlcli.runs.curve import batch_norm_words, task_words

MAX_ROWS = 50

# Classes with a column each; of more, the best are named.
_MAX_COLUMNS = 8
_NUM_BEST = 3

# Characters: of the names of all columns together (longer ones get numbers), of a class, of an image.
_MAX_HEADS = 40
_MAX_NAME = 15
_MAX_IMAGE = 24


def prediction_table(report: PredictionReport) -> Table:
    """Return a table of each image's predicted class and probabilities, between 0 and 1; it fits 80 columns.

    Args:
        report: at least one prediction.
    """
    classes, rows = report.classes, report.predictions
    has_truth = any(row.true is not None for row in rows)
    heads = _heads(classes)
    table = plain_table(caption=_caption(report, heads))
    for name in ("image", "predicted", *(["true"] if has_truth else [])):
        table.add_column(name, overflow="fold", min_width=6)
    for name in heads or ["p"]:
        table.add_column(name, justify="right", no_wrap=True)
    if not heads:
        table.add_column("next", overflow="fold", min_width=12)
    for row in rows[:MAX_ROWS]:
        is_wrong = row.true is not None and row.true != row.predicted
        truth = [_cut(row.true or "-")] if has_truth else []
        cells = [_image_name(row.image, report.query.path), _cut(row.predicted), *truth]
        numbers = _all_cells(row, classes) if heads else _best_cells(row)
        table.add_row(*cells, *numbers, style="red" if is_wrong else None)
    return table


def _heads(classes: Sequence[str]) -> list[str]:
    """Return a heading for each class: its name, or its number where names are long; none for many classes."""
    if len(classes) > _MAX_COLUMNS:
        return []
    names = [shown(name) for name in classes]
    is_short = sum(max(4, len(name)) + 2 for name in names) <= _MAX_HEADS
    return names if is_short else [f"p{number}" for number in range(1, len(classes) + 1)]


def _caption(report: PredictionReport, heads: list[str]) -> str | None:
    lines = []
    names = [shown(name) for name in report.classes]
    if heads and heads != names:
        lines.append(", ".join(f"{head}: {_cut(name, 40)}" for head, name in zip(heads, names, strict=True)))
    hidden = len(report.predictions) - MAX_ROWS
    if hidden > 0:
        lines.append(f"{hidden} more images: --out predictions.csv has them all")
    return "\n".join(lines) or None


def _all_cells(row: ImagePrediction, classes: Sequence[str]) -> list[Text]:
    styles = {row.predicted: "bold"}
    return [Text(f"{row.probabilities[name]:.2f}", style=styles.get(name, "")) for name in classes]


def _best_cells(row: ImagePrediction) -> list[str]:
    ranked = sorted(row.probabilities.items(), key=lambda item: -item[1])[:_NUM_BEST]
    rest = ", ".join(f"{_cut(name)} {value:.2f}" for name, value in ranked[1:])
    return [f"{ranked[0][1]:.2f}", rest]


def _cut(text: str, length: int = _MAX_NAME) -> str:
    """Return a name of at most so many characters, its middle left out: names often differ at their ends."""
    text = shown(text)
    if len(text) <= length:
        return text
    num_last = (length - 2) // 2
    return f"{text[: length - 2 - num_last]}..{text[-num_last:]}"


def _image_name(image: str, root: str) -> str:
    """Return an image's path below the query folder, its start left out where it is long: the end tells more."""
    text = image if image == root else image.removeprefix(root).lstrip("/\\")
    text = shown(text)
    return text if len(text) <= _MAX_IMAGE else ".." + text[2 - _MAX_IMAGE :]


def prediction_title(report: PredictionReport) -> str:
    """Return one line on how many images were classified by which support set."""
    shots = report.shots.values()
    each = f"{min(shots)} each" if len(set(shots)) == 1 else f"{min(shots)} to {max(shots)} each"
    num = report.query.num_images
    images = f"{num} image{'s' if num != 1 else ''}"
    return f"{report.recipe}: {images} by {len(shots)} classes of support images, {each}"


def prediction_notes(report: PredictionReport) -> str:
    """Return lines on how the images were classified and how certain the result is."""
    lines = [
        f"weights: {report.weights}; {report.inner_steps} inner steps",
        f"preprocessing (the run's): {_preprocessing_words(report)}",
        *(
            f"  {which}: {_inversion_words(images)}"
            for which, images in (("support", report.support), ("query", report.query))
        ),
        *_head_lines(report),
        *_batch_norm_lines(report),
        "",
        *_certainty_lines(report),
    ]
    return "\n".join(lines)


def _preprocessing_words(report: PredictionReport) -> str:
    preprocessing = report.preprocessing
    size, colour = preprocessing.size, "grey" if preprocessing.channels == 1 else "colour"
    fit = "the middle square" if preprocessing.fit == "center-crop" else "the whole picture, stretched"
    if report.frame == "ink":
        fit = "the square around the ink, so that it is as large as in training (--frame ink)"
    return f"{fit}, {size}x{size}, {colour}, {preprocessing.resample}, scaled to [0, 1]"


def _inversion_words(images: ImageSet) -> str:
    return f"{'inverted' if images.inverted else 'not inverted'} ({images.inversion})"


def _head_lines(report: PredictionReport) -> list[str]:
    num, outputs = len(report.classes), report.num_outputs
    if report.num_assignments == 1:
        return ["which class has which output does not matter: all outputs start the same (inner.head)"]
    fewer = f"; the softmax is over {num} of the head's {outputs} outputs" if num < outputs else ""
    return [f"which class has which output is arbitrary: the mean over {report.num_assignments} assignments{fewer}"]


def _batch_norm_lines(report: PredictionReport) -> list[str]:
    if report.batch_norm != "batch":
        return []
    if report.depends_on_other_queries:
        return [
            "batch norm: statistics of support and query images together (--joint): each prediction depends on all "
            "query images"
        ]
    return ["batch norm: statistics of the support images: no prediction depends on another query image"]


def _certainty_lines(report: PredictionReport) -> list[str]:
    lines = []
    if report.accuracy is not None:
        lines.append(f"Accuracy on the query images of known class: {_proportion_words(report.accuracy)}.")
    lines.append(_leave_one_out_line(report.leave_one_out))
    if report.meta_test is not None:
        protocol = report.meta_test.protocol
        norm = f", batch norm: {batch_norm_words(protocol)}" if protocol.batch_norm == "batch" else ""
        value = with_interval(report.meta_test.accuracy, scale=PERCENT, digits=1)
        lines.append(
            f"This run on its own {protocol.split} classes: {value} % ({protocol.num_tasks} tasks, "
            f"{task_words(protocol)}, {protocol.inner_steps} inner steps{norm}). "
            "Other images can be harder."
        )
    lines.append("Probabilities are softmax outputs, not calibrated: 0.9 need not be right nine times out of ten.")
    return lines


def _leave_one_out_line(result: LeaveOneOut | None) -> str:
    if result is None:
        return "How certain: unknown. With two or more images of a class, each can be left out and classified."
    accuracy, num_candidates = result.accuracy, result.num_candidates
    part = f" ({accuracy.num_images} of {num_candidates} were left out)"
    some = part if accuracy.num_images < num_candidates else ""
    return f"Leave one out, support images classified by the others: {_proportion_words(accuracy)}{some}."


def _proportion_words(value: Proportion) -> str:
    low, high = (PERCENT * end for end in value.ci95_over_images)
    return (
        f"{value.num_right} of {value.num_images} right, {PERCENT * value.mean:.0f} % (95 % interval over "
        f"images {low:.0f} to {high:.0f} %)"
    )
