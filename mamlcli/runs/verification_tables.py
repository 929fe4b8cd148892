"""Shows whether runs of a recipe reproduce its reference, as a table and a sentence."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mamlcli.common.tables import plain_table
from mamlcli.common.words import one_line
from mamlcli.runs.curve import batch_norm_words, task_words
from mamlcli.runs.verification import Verification

_VERDICTS = {
    "equivalent": "equal within the margin: the interval of the gain lies within it",
    "better": "better than the reference: the interval lies above zero, and not within the margin",
    "worse": "worse than the reference: the interval lies below zero, and not within the margin",
    "undecided": "undecided: the interval contains zero, and reaches beyond the margin; more seeds or tasks "
    "(evaluation.tasks) make it narrower",
}

_NO_INTERVAL = "undecided: all tasks score the same, so there is no interval; more tasks (evaluation.tasks) may differ"


def verification_parts(done: Verification) -> list[RenderableType]:
    """Return a verification as a table of the numbers, and a sentence with the verdict."""
    of_one = "" if len(done.runs) > 1 else " One seed: this is said of its weights, not of other trainings."
    words = _VERDICTS[done.result.verdict] if done.result.interval else _NO_INTERVAL
    return [_table(done), Text(f"Verdict: {words}.{of_one}")]


def _table(done: Verification) -> Table:
    reference, result, protocol = done.reference, done.result, done.protocol
    is_accuracy = reference.metric == "accuracy"
    digits, unit = (2, " %") if is_accuracy else (4, "")
    quantity = "query accuracy" if is_accuracy else "mean squared error (twice the loss)"
    steps = f"{protocol.inner_steps} inner step{'s' * (protocol.inner_steps != 1)}"
    changes = f"changed: {one_line(' '.join(done.changes))}\n" if done.changes else ""
    table = plain_table(
        f"{one_line(done.recipe)}: {quantity} after {steps} against the reference\n{changes}"
        f"{task_words(protocol)}; batch norm: {batch_norm_words(protocol)}\n"
        f"{protocol.num_tasks} {protocol.split} tasks, evaluation.seed {protocol.seed}",
        "two one-sided t tests at 5 % each; the reference counts as exact",
    )
    table.add_column("")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", style="dim")
    table.add_row("reference", f"{reference.value:g}{unit}", Text(one_line(reference.source)))
    table.add_row("margin", f"± {reference.margin:g}{unit}", "the largest difference that counts as equal")
    for run in done.runs:
        which = Text(one_line(f"{run.run}, weights: {run.weights}"))
        table.add_row(f"seed {run.seed}", f"{run.value:.{digits}f}{unit}", which)
    if len(done.runs) > 1:
        table.add_row("mean", f"{result.mean:.{digits}f}{unit}", f"of {len(done.runs)} seeds")
    table.add_section()
    better = "mean minus reference" if is_accuracy else "reference minus mean: a smaller error is a gain"
    table.add_row("gain", f"{result.gain:+.{digits}f}{unit}", better)
    ends = " to ".join(f"{end:+.{digits}f}" for end in result.interval or ())
    table.add_row("90 % interval", ends or "none", _over(done))
    table.add_row("p", f"{result.p_equivalent:.2g}", "of the test that the gain is the margin or more, on either side")
    table.add_row("", f"{result.p_better:.2g}", "of the test that there is no gain")
    return table


def _over(done: Verification) -> str:
    num_seeds, num_tasks = len(done.runs), done.protocol.num_tasks
    if num_seeds == 1:
        return f"over {num_tasks} tasks, one seed: other trainings are not in it"
    return f"over {num_seeds} seeds and {num_tasks} tasks, the same for every seed"
