"""The paper's claims, each a function from results to a verdict.

C1 to C6 are decided by paired differences over seeds, after the rule of `decisions`; C3 and C7 also have a part that
is exact and is checked at every scale. All numbers are on meta-test tasks after adaptation, at inner learning rates
chosen on meta-validation tasks.

Source: Arnold, Iqbal, Sha 2021, arXiv 1910.13603. The statements are ours, in the words of this project.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from mamlcli.adaptation import InnerLoop, adapt
from mamlcli.decisions import FAILS, HOLDS, UNDECIDED, Decision, Prediction, combine, decide, log_odds, slopes
from mamlcli.estimators import example_loss
from mamlcli.models import apply_network, linear
from mamlcli.optimum import OptimumReport
from mamlcli.study_result import StudyResult
from mamlcli.transforms import KFO

Array = NDArray[np.float64]

# The exact identity holds to rounding in float64; a few steps of a few layers lose a few digits.
IDENTITY_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Study:
    """Finished cells of one family of tasks under one algorithm.

    Attributes:
        key: as in "glyphs-maml".
        words: for tables, as in "glyphs, MAML".
        scores: metric -> value key -> [num_seeds] float64, the seeds' means over meta-test tasks after adaptation.
        result: of the sweep.
        operators: value key -> the learned operators of each seed beside the best one; linear regression alone.
    """

    key: str
    words: str
    scores: Mapping[str, Mapping[str, Array]]
    result: StudyResult
    operators: Mapping[str, Sequence[OptimumReport]] = field(default_factory=dict)

    def has(self, *values: str) -> bool:
        return all(value in self.scores["loss"] for value in values)


@dataclass(frozen=True)
class ExactCheck:
    """A statement that is true to rounding or false.

    Attributes:
        name: in words.
        value: the largest error found.
        tolerance: the most that rounding explains.
    """

    name: str
    value: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.value <= self.tolerance


@dataclass(frozen=True)
class ClaimResult:
    """A decided claim.

    Attributes:
        id: "C1" to "C7".
        statement: of the claim.
        rule: what it predicts of the numbers measured.
        verdict: "holds", "fails" or "undecided".
        decisions: of its predictions.
        checks: its exact parts.
        missing: what could not be looked at, and why.
        notes: further numbers, in words; they decide nothing.
    """

    id: str
    statement: str
    rule: str
    verdict: str
    decisions: list[Decision]
    checks: list[ExactCheck] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def value_key(depth: int, layers: int = 0, optimizer: str = "none") -> str:
    """Return the name of one cell of a study: its depth, appended linear layers, and transform."""
    parts = [f"depth {depth}", *([f"{layers} linear layer{'s' if layers > 1 else ''}"] if layers else [])]
    return ", ".join([*parts, *([optimizer] if optimizer != "none" else [])])


def difference(study: Study, a: str, b: str, *, sign: int) -> Prediction:
    """Predict the sign of the query loss of a minus that of b."""
    loss = study.scores["loss"]
    return Prediction(f"{study.words}: query loss, {a} minus {b}", loss[a] - loss[b], sign)


def depth_slope(study: Study, depths: Sequence[int]) -> Prediction:
    """Predict that the query loss falls with depth."""
    values = [study.scores["loss"][value_key(depth)] for depth in depths]
    return Prediction(f"{study.words}: slope of query loss over depth", slopes(values, depths), -1)


def advantage_slopes(study: Study, depths: Sequence[int], optimizer: str) -> list[Prediction]:
    """Predict that the advantage of a transform over none shrinks with depth, on query loss and on log-odds."""
    found = []
    for metric, name, sign in (("loss", "query loss", 1), ("accuracy", "log-odds of accuracy", -1)):
        scores = study.scores[metric]
        convert: Callable[[Array], Array] = log_odds if metric == "accuracy" else np.asarray
        values = [
            convert(scores[value_key(depth, optimizer=optimizer)]) - convert(scores[value_key(depth)])
            for depth in depths
        ]
        name = f"{study.words}: slope over depth of the difference {optimizer} minus none, on {name}"
        found.append(Prediction(name, slopes(values, depths), sign))
    return found


def decided(
    claim: str, statement: str, rule: str, predictions: Sequence[Prediction], *,
    checks: Sequence[ExactCheck] = (), missing: Sequence[str] = (), notes: Sequence[str] = (),
) -> ClaimResult:  # fmt: skip
    """Decide a claim: all predictions together, and every exact check."""
    decisions: list[Decision] = []
    verdicts: list[str] = []
    if predictions:
        verdict, decisions = decide(predictions)
        verdicts.append(verdict)
    verdicts += [HOLDS if check.holds else FAILS for check in checks]
    if missing or not predictions:
        verdicts.append(UNDECIDED)
    return ClaimResult(claim, statement, rule, combine(verdicts), decisions, list(checks), list(missing), list(notes))


def c1(studies: Sequence[Study], pairs: Mapping[str, tuple[str, str]]) -> ClaimResult:
    """Decide C1 on synthetic tasks; `pairs` gives for each study (deeper, shallow)."""
    predictions, missing = _differences(studies, {key: [pair] for key, pair in pairs.items()})
    found = {study.key for study in studies}
    missing += [f"{key}: no cell finished" for key in pairs if key not in found]
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
        missing=_missing(studies, complete, "cells of the depths"),
    )


def c3(studies: Sequence[Study], layers: Sequence[int]) -> ClaimResult:
    """Decide C3 on image tasks: adaptation by paired differences, capacity exactly."""
    base = value_key(1)
    predictions, missing = _differences(
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
    predictions, missing = _differences(
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
        missing=_missing(studies, complete, f"cells of the grid depth x {optimizer}"),
    )


def c6(studies: Sequence[Study], depths: Sequence[int], layers: Sequence[int], optimizer: str) -> ClaimResult:
    """Decide C6: C2, C3, C4 and C5 under ANIL."""
    base = value_key(1)
    wanted = [(value_key(1, layers=n), base) for n in layers] + [(value_key(1, optimizer=optimizer), base)]
    predictions, missing = _differences(studies, {study.key: wanted for study in studies})
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
        missing=[*missing, *_missing(studies, complete, f"cells of the grid depth x {optimizer}")],
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


def identity_error(*, seed: int = 0, num_steps: int = 3) -> float:
    """Return how far the exact identity of C7 is from holding in float64, relative to the movement.

    E = U W A, only W moves by gradient descent; E moves exactly as a one-layer model moves under linear KFO with
    L = U U^T and R = A^T A (positive semi-definite, factors U^T and A). Both sides run through the one inner loop.

    Source: Arnold et al. 2021, arXiv 1910.13603, the theory of section 3; the identity is exact at every step.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    num_inputs, width_below, width_above, num_outputs = 6, 5, 4, 3
    a, w, u = draw(width_below, num_inputs), draw(width_above, width_below), draw(num_outputs, width_above)
    x, y = draw(20, num_inputs), torch.arange(20) % num_outputs
    stack = linear((num_inputs,), num_outputs, depth=1, bias=False)
    start = u @ w @ a
    lr = 0.01

    def stack_loss(fast: dict[str, torch.Tensor]) -> torch.Tensor:
        return example_loss(x @ (u @ fast["w"] @ a).T, y)

    moved = adapt(stack_loss, {"w": w}, {}, InnerLoop(("w",), lr, num_steps)).fast_weights["w"]
    name = "head.0.weight"
    inner = InnerLoop((name,), lr, num_steps, transform=KFO(psd=True))
    xi = {f"{name}/left": u.T.contiguous(), f"{name}/right": a}
    one_layer = adapt(
        lambda fast: example_loss(apply_network(stack, fast, x), y), {name: start}, xi, inner
    ).fast_weights[name]
    return float((u @ moved @ a - one_layer).norm() / (one_layer - start).norm())


def _differences(
    studies: Sequence[Study], pairs: Mapping[str, Sequence[tuple[str, str]]]
) -> tuple[list[Prediction], list[str]]:
    """Return the predictions a < b on query loss, and what is missing for others."""
    predictions, missing = [], []
    for study in studies:
        for a, b in pairs.get(study.key, ()):
            if study.has(a, b):
                predictions.append(difference(study, a, b, sign=-1))
            else:
                missing.append(f"{study.words}: {a} or {b} did not finish")
    return predictions, missing


def _missing(studies: Sequence[Study], complete: Sequence[Study], what: str) -> list[str]:
    return [f"{study.words}: {what} did not finish" for study in studies if study not in complete]
