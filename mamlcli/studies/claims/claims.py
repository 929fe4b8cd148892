"""The paper's claims (C1 to C7): what each says, and how it is decided on the studies of a plan.

All predictions of a claim are decided together, those beside it each by itself, by the rule of `decisions`. A claim
with exact checks fails if one of them does. All numbers are on meta-test tasks after adaptation, at inner learning
rates chosen on the meta-validation tasks of pilot seeds.

Source: Arnold, Iqbal, Sha 2021, arXiv 1910.13603. The statements are ours, in the words of this project.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType

from mamlcli.studies.claims import predicted
from mamlcli.studies.claims.contrasts import (
    EQUAL_TO_KFO,
    EQUAL_TO_SHALLOW,
    LOG_ODDS,
    LOSS,
    MEASURE_WORDS,
    CellValue,
    Contrast,
)
from mamlcli.studies.claims.decisions import FAILS, HOLDS, UNDECIDED, Looks, decide, decide_one
from mamlcli.studies.claims.identity import IDENTITY_TOLERANCE, identity_error
from mamlcli.studies.claims.plan import Family, Plan
from mamlcli.studies.claims.predictions import ClaimResult, ExactCheck, FailedCell, Row, Study


@dataclass(frozen=True)
class Claim:
    """A claim is one of the paper's, with what it predicts of a family's cells.

    Attributes:
        id: "C1" to "C7".
        statement: in our words.
        rule: what must be found for it to hold.
        predict: returns its predictions about a family.
        checks: returns its exact parts.
        notes: returns further numbers of a study, in words.
        equal: the deeper network of about as many parameters that families of MAML may have for it; None for none.
    """

    id: str
    statement: str
    rule: str
    predict: Callable[[Family], list[Contrast]]
    checks: Callable[[Sequence[Study]], list[ExactCheck]] = lambda studies: []
    notes: Callable[[Study], list[str]] = lambda study: []
    equal: CellValue | None = None


def contrasts_of(families: Sequence[Family]) -> tuple[Contrast, ...]:
    """Return the predictions of all claims about these families, in the order of the claims."""
    return tuple(chain.from_iterable(claim.predict(family) for claim in CLAIMS for family in families))


# (family, value) -> its cells that failed
FailedCells = Mapping[tuple[str, str], Sequence[FailedCell]]


def decide_claims(
    plan: Plan, studies: Sequence[Study], failed: FailedCells = MappingProxyType({})
) -> list[ClaimResult]:
    """Decide every claim on the plan's predictions and the studies' scores; what failed is named where it is needed."""
    return [_with_failures(_decided(claim, plan, studies), plan, failed) for claim in CLAIMS]


def _with_failures(result: ClaimResult, plan: Plan, failed: FailedCells) -> ClaimResult:
    """Name in an undecided claim the cells that failed of those that its open predictions need."""
    if result.verdict != UNDECIDED:
        return result
    decided = {row.contrast.key for row in result.deciding if row.decision.verdict == HOLDS}
    needed = dict.fromkeys(
        (contrast.study, value)
        for contrast in plan.contrasts
        if contrast.claim == result.id and contrast.decides and contrast.key not in decided
        for value in contrast.cells
    )
    return replace(result, failed=tuple(cell for value in needed for cell in failed.get(value, ())))


def _decided(claim: Claim, plan: Plan, studies: Sequence[Study]) -> ClaimResult:
    by_key = {study.key: study for study in studies}
    words = {family.key: family.words for family in plan.families}
    contrasts = [contrast for contrast in plan.contrasts if contrast.claim == claim.id]
    verdict, rows = _rows(contrasts, by_key, words, plan.looks)
    there = [row for row in rows if len(row.decision.prediction.differences)]
    without = [f"{row.study_words}: {row.contrast.words}" for row in rows if row not in there and row.contrast.decides]
    missing = [f"{name}: a cell has no score" for name in dict.fromkeys(without)]
    if not any(contrast.decides for contrast in contrasts):
        missing.append("no family of this plan has the cells that the claim is about")
    checks = claim.checks(studies)
    if any(not check.holds for check in checks):
        verdict = FAILS
    elif missing and verdict == HOLDS:
        verdict = UNDECIDED
    mine = [study for study in studies if any(contrast.study == study.key for contrast in contrasts)]
    notes = [note for study in studies for note in claim.notes(study)]
    notes += disagreements([row for row in there if row.contrast.decides])
    notes += [note for study in mine for note in study.notes]
    beside = disagreements([row for row in there if not row.contrast.decides]) + not_tested(claim, plan)
    return ClaimResult(
        claim.id,
        claim.statement,
        claim.rule,
        verdict,
        tuple(there),
        tuple(checks),
        tuple(missing),
        tuple(notes),
        tuple(beside),
    )


def not_tested(claim: Claim, plan: Plan) -> list[str]:
    """Return on which families of MAML a claim has no comparison at equal numbers of parameters, in words."""
    without = [family.words for family in plan.families if family.role == "maml" and claim.equal not in family.values]
    if claim.equal is None or not without:
        return []
    return [f"A deeper plain network of about as many parameters: not tested at this scale ({'; '.join(without)})"]


def _rows(
    contrasts: Sequence[Contrast], studies: Mapping[str, Study], words: Mapping[str, str], looks: Looks
) -> tuple[str, list[Row]]:
    """Return the verdict of the deciding predictions together and a row for each prediction.

    A deciding prediction without data takes part: it keeps the claim from holding, and counts in Holm's procedure.
    """
    predictions = {
        contrast.key: contrast.prediction(
            studies[contrast.study].scores if contrast.study in studies else {},
            words.get(contrast.study, contrast.study),
        )
        for contrast in contrasts
    }
    deciding = [contrast.key for contrast in contrasts if contrast.decides]
    verdict, together = decide([predictions[key] for key in deciding], looks)
    decisions = dict(zip(deciding, together, strict=True))
    rows = [
        Row(
            contrast,
            words.get(contrast.study, contrast.study),
            decisions.get(contrast.key) or decide_one(predictions[contrast.key], looks),
        )
        for contrast in contrasts
    ]
    return verdict, rows


def disagreements(rows: Sequence[Row]) -> list[str]:
    """Return where query loss and log-odds of accuracy give two verdicts, in words, with both."""
    on_log_odds = {(row.contrast.study, row.contrast.words): row for row in rows if row.contrast.measure == LOG_ODDS}
    notes = []
    for row in rows:
        other = on_log_odds.get((row.contrast.study, row.contrast.words))
        if row.contrast.measure != LOSS or other is None or other.decision.verdict == row.decision.verdict:
            continue
        parts = [f"{part.decision.verdict} on {MEASURE_WORDS[part.contrast.measure]}" for part in (row, other)]
        means = [f"{part.decision.of_all_seeds.mean:+.3g}" for part in (row, other)]
        notes.append(
            f"{row.study_words}: {row.contrast.words}: {parts[0]} (mean {means[0]} nats), {parts[1]} (mean {means[1]})"
        )
    return notes


# The best that any function of the support set reaches, by the role of the study.
FLOORS = {"linear-regression": "posterior mean", "logistic": "Bayes predictive"}


def excess_notes(study: Study) -> list[str]:
    """Return how much of the shallow model's excess over the floor the deeper one and the transforms remove.

    Floors: the posterior mean of linear regression, the Bayes predictive of binary classification; MAP is a baseline
    that others may beat. Over seeds: the ratio of means.
    """
    floor = _reference(study, FLOORS.get(study.role, ""))
    by_value = {key: by for key, by in study.scores.get(LOSS, {}).items() if by}
    # Of the same seeds, as later looks have more of some values than of others.
    common = set.intersection(*map(set, by_value.values())) if by_value else set()
    means = {key: math.fsum(by[seed] for seed in common) / len(common) for key, by in by_value.items() if common}
    plain = means.get(predicted.SHALLOW.key)
    if math.isnan(floor) or plain is None or plain <= floor:
        return []
    removed = {
        key: f"{100 * (plain - mean) / (plain - floor):.0f} %"
        for key, mean in means.items()
        if key != predicted.SHALLOW.key
    }
    note = (
        f"{study.words}: the floor, the {FLOORS[study.role]}, has a query loss of {floor:.4f}; "
        f"{predicted.SHALLOW.key} keeps an excess of {plain - floor:.4f} above it"
    )
    if removed:
        (first, share), *others = ((key.replace(", ", " with "), share) for key, share in removed.items())
        note += f". Of this excess {first} removes {share}"
        note += "".join(f"; {name}, {share}" for name, share in others)
    baseline = _reference(study, "MAP")
    return (
        [note] if math.isnan(baseline) else [note, f"{study.words}: MAP, a baseline and no floor, has {baseline:.4f}"]
    )


def _reference(study: Study, name: str) -> float:
    references = study.result.references
    return references[name].mean("loss") if name in references else math.nan


def capacity_checks(studies: Sequence[Study]) -> list[ExactCheck]:
    """Return the exact part of C3: outputs agree after collapsing, and the sizes are those without layers."""
    return [check for study in studies if study.role == "maml" for check in _capacity_checks(study)]


def _capacity_checks(study: Study) -> list[ExactCheck]:
    cells = [(cell, cell.collapse) for cell in study.result.cells if cell.collapse]
    stacked = [(cell, collapse) for cell, collapse in cells if cell.grid.layers]
    compared = [collapse.worst for _, collapse in stacked if collapse.worst.is_compared]
    plain = {
        (cell.grid.depth, cell.grid.width): cell
        for cell in study.result.cells
        if not cell.grid.layers and cell.grid.optimizer == CellValue(1).optimizer
    }
    if not stacked:
        return []
    name = f"{study.words}: largest relative difference of outputs between adapted stacks and their collapsed models"
    worst = max(compared, key=lambda record: record.largest_relative_difference, default=None)
    outputs = [] if worst is None else [ExactCheck(name, worst.largest_relative_difference, worst.tolerance)]
    sizes = [
        abs(collapse.num_parameters - plain[cell.grid.depth, cell.grid.width].num_parameters)
        for cell, collapse in stacked
        if (cell.grid.depth, cell.grid.width) in plain
    ]
    name = f"{study.words}: parameters of the collapsed models beyond the shallow model's"
    return [*outputs, ExactCheck(name, float(max(sizes)), 0.0)] if sizes else outputs


def identity_checks(studies: Sequence[Study]) -> list[ExactCheck]:
    """Return the exact part of C7, which needs no study."""
    name = "largest relative difference between moving the middle layer of three and linear KFO on their product"
    return [ExactCheck(name, identity_error(), IDENTITY_TOLERANCE)]


_SHALLOW, _DEEP = predicted.C5_DEPTHS
_BOTH = "on query loss and on log-odds of accuracy"
CLAIMS = (
    Claim(
        "C1",
        "On tasks that a linear model solves, a shallow linear model cannot adapt fast; the same function class with "
        "more linear layers can.",
        "The deeper linear model has the lower query loss; on linear regression also with each task's loss capped at "
        "that of guessing, on binary classification also the higher log-odds of accuracy.",
        predicted.c1,
        notes=excess_notes,
    ),
    Claim(
        "C2",
        "MAML adapts better with more layers, even where a task needs only a shallow model.",
        f"Each deeper network adapts better than the one of one block, {_BOTH}. Beside it, where they are tested: "
        "whether a shallow network does for these tasks, and depth at equal numbers of parameters.",
        predicted.c2,
        equal=EQUAL_TO_SHALLOW,
    ),
    Claim(
        "C3",
        "Linear layers appended to the output of a shallow model raise adaptation and leave its capacity unchanged.",
        "The shallow network adapts better with appended layers than without, and than with the same layers collapsed "
        f"into one before adaptation, which then adapts at its own best inner rate, {_BOTH}. Exactly: every "
        "adapted stack multiplies out to one layer with the same outputs, of the size of the shallow model.",
        predicted.c3,
        checks=capacity_checks,
    ),
    Claim(
        "C4",
        "A separate meta-optimizer that transforms the gradients of a small model raises adaptation too.",
        f"Linear KFO on the shallow network adapts better than no transform, {_BOTH}. Beside it, where they are "
        "tested: every other transform, and KFO against a deeper plain network of about as many parameters.",
        predicted.c4,
        equal=EQUAL_TO_KFO,
    ),
    Claim(
        "C5",
        "The advantage of a meta-optimizer shrinks as the model gets deeper.",
        f"The advantage of linear KFO over none is larger at depth {_SHALLOW} than at depth {_DEEP}, {_BOTH}. The "
        "depths were fixed before the seeds that are tested.",
        predicted.c5,
    ),
    Claim(
        "C6",
        "All of this holds for ANIL as it does for MAML.",
        "Under ANIL too, each deeper network, appended linear layers and linear KFO each adapt better than the network "
        "of one block, the layers also better than collapsed as in C3 (where the plan has that control), and "
        f"the advantage of KFO is smaller at depth {_DEEP} than at "
        f"depth {_SHALLOW}, or than at depth 1 where KFO is not run at depth {_SHALLOW}, {_BOTH}.",
        predicted.c6,
    ),
    Claim(
        "C7",
        "In a deep network that meta-learns well, the upper layers transform the gradients of the lower ones as a "
        "meta-optimizer would on a smaller network.",
        "Exactly: moving the middle layer of a three-layer stack is linear KFO on the collapsed model. Learned: on "
        "badly conditioned linear regression, the operator that two layers apply to the gradient of their product is "
        "nearer to the best preconditioner, up to scale, than that of one layer.",
        predicted.c7,
        checks=identity_checks,
    ),
)
