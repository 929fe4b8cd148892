"""What each claim of the paper (C1 to C7) predicts of the studies, one function each.

C1 to C6 are decided by paired differences over seeds, after the rule of `decisions`; C3 and C7 also have a part that
is exact and is checked at every scale. All numbers are on meta-test tasks after adaptation, at inner learning rates
chosen on meta-validation tasks.

Source: Arnold, Iqbal, Sha 2021, arXiv 1910.13603. The statements are ours, in the words of this project.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mamlcli.studies.claims.decisions import Prediction
from mamlcli.studies.claims.identity import IDENTITY_TOLERANCE, identity_error
from mamlcli.studies.claims.predictions import (
    Array,
    ClaimResult,
    ExactCheck,
    Study,
    advantage_slopes,
    decided,
    depth_slope,
    paired_differences,
    value_key,
    without_result,
)


def c1(studies: Sequence[Study], pairs: Mapping[str, tuple[str, str]]) -> ClaimResult:
    """Decide C1 on synthetic tasks; `pairs` gives for each study (deeper, shallow)."""
    predictions, missing = paired_differences(studies, {key: [pair] for key, pair in pairs.items()})
    finished = {study.key for study in studies}
    missing += [f"{key}: no cell finished" for key in pairs if key not in finished]
    return decided(
        "C1",
        "On tasks that a linear model solves, a shallow linear model cannot adapt fast; the same function class with "
        "more linear layers can.",
        "The deeper linear model has the lower query loss, on linear regression and on binary classification.",
        predictions,
        missing=missing,
        notes=[note for study in studies if study.key in pairs for note in excess_notes(study, *pairs[study.key])],
    )


def excess_notes(study: Study, deeper: str, shallow: str) -> list[str]:
    """Return how much of the shallow model's excess over the floor the deeper one removes, where a floor is known.

    The floor is the posterior mean of linear regression. Over seeds: the ratio of means.
    """
    references = study.result.references
    floor = references["posterior mean"].mean("loss") if "posterior mean" in references else math.nan
    if math.isnan(floor) or not study.has(deeper, shallow):
        return []
    loss = study.scores["loss"]
    deep, plain = float(np.mean(loss[deeper])), float(np.mean(loss[shallow]))
    removed = (plain - deep) / (plain - floor)
    return [
        f"{study.words}: the posterior mean has a query loss of {floor:.4f}; {shallow} keeps {plain - floor:.4f} above "
        f"it at its best inner rate, {deeper} {deep - floor:.4f}: {100 * removed:.0f} % of the excess is removed"
    ]


def c2(studies: Sequence[Study], depths: Sequence[int]) -> ClaimResult:
    """Decide C2 on image tasks."""
    complete = [study for study in studies if study.has(*map(value_key, depths))]
    return decided(
        "C2",
        "MAML adapts better with more layers, even where a task needs only a shallow model.",
        f"The slope of the query loss over depths {', '.join(map(str, depths))} is negative. (Whether a shallow model "
        "would do for these tasks is the capacity arm of sweep-depth, and not decided here.)",
        [depth_slope(study, depths) for study in complete],
        missing=without_result(studies, complete, "cells of the depths"),
    )


def c3(studies: Sequence[Study], layers: Sequence[int]) -> ClaimResult:
    """Decide C3 on image tasks: adaptation by paired differences, capacity exactly."""
    base = value_key(1)
    predictions, missing = paired_differences(
        studies, {study.key: [(value_key(1, layers=n), base) for n in layers] for study in studies}
    )
    return decided(
        "C3",
        "Linear layers appended to the output of a shallow model raise adaptation and leave its capacity unchanged.",
        "With appended layers the query loss is lower than without; every adapted stack multiplies out to one layer "
        "with the same outputs, of the size of the shallow model.",
        predictions,
        checks=[check for study in studies for check in capacity_checks(study)],
        missing=missing,
    )


def capacity_checks(study: Study) -> list[ExactCheck]:
    """Return the exact part of C3: outputs agree after collapsing, and the sizes are those without layers."""
    cells = [(cell, cell.collapse) for cell in study.result.cells if cell.collapse]
    stacked = [(cell, collapse) for cell, collapse in cells if cell.grid.layers]
    plain = {cell.grid.depth: cell for cell, _ in cells if not cell.grid.layers}
    if not stacked:
        return []
    worst = max((collapse.worst for _, collapse in stacked), key=lambda record: record.largest_relative_difference)
    outputs = ExactCheck(
        f"{study.words}: largest relative difference of outputs between adapted stacks and their collapsed models",
        float(worst.largest_relative_difference),
        float(worst.tolerance),
    )
    sizes = [
        abs(collapse.num_parameters - plain[cell.grid.depth].num_parameters)
        for cell, collapse in stacked
        if cell.grid.depth in plain
    ]
    name = f"{study.words}: parameters of the collapsed models beyond the shallow model's"
    return [outputs, ExactCheck(name, float(max(sizes)), 0.0)] if sizes else [outputs]


def c4(studies: Sequence[Study], optimizers: Sequence[str]) -> ClaimResult:
    """Decide C4 on image tasks at depth 1."""
    base = value_key(1)
    predictions, missing = paired_differences(
        studies, {study.key: [(value_key(1, optimizer=name), base) for name in optimizers] for study in studies}
    )
    return decided(
        "C4",
        "A separate meta-optimizer that transforms the gradients of a small model raises adaptation too.",
        "Each transform has a lower query loss than none, at depth 1.",
        predictions,
        missing=missing,
    )


def c5(studies: Sequence[Study], depths: Sequence[int], optimizer: str) -> ClaimResult:
    """Decide C5 on image tasks."""
    needed = [value_key(depth, optimizer=name) for depth in depths for name in ("none", optimizer)]
    complete = [study for study in studies if study.has(*needed)]
    return decided(
        "C5",
        "The advantage of a meta-optimizer shrinks as the model gets deeper.",
        f"Over depths {', '.join(map(str, depths))}, the difference {optimizer} minus none rises on query loss and "
        "falls on the log-odds of accuracy (accuracy itself has a ceiling). Of the transforms, this one is looked at.",
        [prediction for study in complete for prediction in advantage_slopes(study, depths, optimizer)],
        missing=without_result(studies, complete, f"cells of the grid depth x {optimizer}"),
    )


def c6(studies: Sequence[Study], depths: Sequence[int], layers: Sequence[int], optimizer: str) -> ClaimResult:
    """Decide C6: C2, C3, C4 and C5 under ANIL."""
    base = value_key(1)
    wanted = [(value_key(1, layers=n), base) for n in layers] + [(value_key(1, optimizer=optimizer), base)]
    predictions, missing = paired_differences(studies, {study.key: wanted for study in studies})
    needed = [value_key(depth, optimizer=name) for depth in depths for name in ("none", optimizer)]
    complete = [study for study in studies if study.has(*needed)]
    for study in complete:
        predictions += [depth_slope(study, depths), *advantage_slopes(study, depths, optimizer)]
    return decided(
        "C6",
        "All of this holds for ANIL as it does for MAML.",
        "Under ANIL too, the query loss falls with depth, is lower with appended linear layers, is lower with "
        f"{optimizer}, and that advantage shrinks with depth.",
        predictions,
        missing=[*missing, *without_result(studies, complete, f"cells of the grid depth x {optimizer}")],
    )


def c7(study: Study | None) -> ClaimResult:
    """Decide C7: the identity exactly, and the operators learned on linear regression beside the best one."""
    identity = ExactCheck(
        "largest relative difference between moving the middle layer of three and linear KFO on their product",
        identity_error(),
        IDENTITY_TOLERANCE,
    )
    predictions, missing = [], []
    plain, deep = value_key(1), value_key(2)
    if study is not None and plain in study.operators and deep in study.operators:
        learned, unpreconditioned = _scaled_distances(study, deep), _scaled_distances(study, plain)
        if len(learned) == len(unpreconditioned):
            name = f"{study.words}: distance of the learned operator to the best one, {deep} minus {plain}"
            predictions.append(Prediction(name, learned - unpreconditioned, -1))
    if not predictions:
        missing.append("the learned operators of linear regression: cells are missing")
    return decided(
        "C7",
        "In a deep network that meta-learns well, the upper layers transform the gradients of the lower ones as a "
        "meta-optimizer would on a smaller network.",
        "Exactly: moving the middle layer of a three-layer stack is linear KFO on the collapsed model. Learned: on "
        "badly conditioned linear regression, the operator that two layers apply to the gradient of their product is "
        "closer to the best preconditioner, up to scale, than that of one layer.",
        predictions,
        checks=[identity],
        missing=missing,
    )


def _scaled_distances(study: Study, value: str) -> Array:
    """Return the distance of the operator of all steps to the best one, up to scale, [num_seeds]."""
    learned = [report.all_steps for report in study.operators[value]]
    return np.asarray([operator.distance_scaled for operator in learned if operator is not None], dtype=np.float64)
