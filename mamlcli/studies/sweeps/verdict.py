"""The verdict of a study says in sentences what it shows."""

from __future__ import annotations

from mamlcli.studies.sweeps.result import Advantage, StudyResult, advantages_at_each_depth
from mamlcli.studies.sweeps.tables import AXIS_WORDS, difference_text, is_clear, number, value_label


def study_verdict(result: StudyResult) -> str:
    """Return in a few sentences what a study shows, with its numbers."""
    if len(result.cells) == 0:
        return "No cell has finished."
    if len(result.cells) == 1:
        return "One axis value alone: nothing to compare."
    if result.is_grid:
        return _grid_verdict(result)
    sentences = [_best_sentence(result)]
    if result.study == "add-linear":
        sentences.append(collapse_sentence(result))
    return " ".join(sentences)


def _best_sentence(result: StudyResult) -> str:
    """Say which value is best and how far it is from the first."""
    metric = result.main_metric
    cells = [cell for cell in result.cells if cell.final.values[metric].mean is not None]
    if not cells:
        return "No value has a finite score."
    sign = 1 if metric == "accuracy" else -1
    best = max(cells, key=lambda cell: sign * cell.final.mean(metric))
    words, first = AXIS_WORDS[result.axis], result.cells[0]
    unit = " %" if metric == "accuracy" else ""
    choice = _choice_words(len(cells))
    text = f"Best{choice}: {words} {value_label(best.value)}, {metric} {number(best.final.of(metric), metric)}{unit}"
    difference = next(
        (c.difference for c in result.comparisons if c.metric == metric and c.a == best.value and c.b == first.value),
        None,
    )
    if difference is None:
        return f"{text}, the first value."
    clear = "its interval excludes zero" if is_clear(difference) else "which its interval does not tell from zero"
    points = " points" if metric == "accuracy" else ""
    shown = difference_text(difference, metric).rstrip(" *")
    return f"{text}; {shown}{points} against {words} {value_label(first.value)}, paired, {clear}."


def _choice_words(num: int) -> str:
    """Say that the best of several was chosen by the scores that are shown; its score is then too good."""
    return f" of {num} on meta-test, not corrected for the choice" if num > 1 else ""


def collapse_sentence(result: StudyResult) -> str:
    """Say how far the collapsed models are from their stacks."""
    records = [cell.collapse.worst for cell in result.cells if cell.collapse]
    worst = max(records, key=lambda record: record.largest_relative_difference)
    verdict = "the same outputs" if worst.agrees else "OTHER outputs"
    return (
        f"Collapsed into one layer after adaptation, every model gives {verdict}: the largest difference on "
        f"{worst.num_tasks} tasks is {worst.largest_relative_difference:.1e} of the largest output "
        f"(allowed: {worst.tolerance:.0e})."
    )


def _grid_verdict(result: StudyResult) -> str:
    metric = result.main_metric
    first = result.cells[0].grid.optimizer
    sign = 1 if metric == "accuracy" else -1
    best: dict[int, Advantage] = {}
    for advantage in advantages_at_each_depth(result, metric):
        if (mean := advantage.difference.mean) is not None:
            before = best.get(advantage.depth)
            if before is None or before.difference.mean is None or sign * mean > sign * before.difference.mean:
                best[advantage.depth] = advantage
    if not best:
        return "Nothing to compare."
    parts = [
        f"{difference_text(advantage.difference, metric).rstrip(' *')} at depth {depth} ({advantage.optimizer})"
        for depth, advantage in sorted(best.items())
    ]
    unit = "accuracy points" if metric == "accuracy" else "loss"
    choice = _choice_words(len({cell.grid.optimizer for cell in result.cells}) - 1)
    best_of = f" (best{choice})" if choice else ""
    return f"The best advantage over {first}, in {unit}{best_of}: {', '.join(parts)}."
