"""The sentences of a reproduction's report: how a verdict is reached, what tables and plots show, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mamlcli.studies.claims.decisions import FAILS, HOLDS, NO_EFFECT, UNDECIDED
from mamlcli.studies.claims.predictions import ClaimResult

RULE = (
    "How a verdict is reached: each prediction is a set of differences paired by seed, positive as predicted, with a "
    "margin, the smallest effect that matters. At each planned look the first of these that applies is final: the "
    "whole interval inside the margin, no relevant effect; above zero, holds; below zero, fails. Otherwise it is "
    "undecided. A claim holds when each of its deciding predictions and exact checks does; it fails, or has no "
    "relevant effect, when one does after Holm's correction. The one-sided error of 2.5 % is for each claim, not for "
    "all seven together."
)
OVER = (
    "Intervals are over seeds: trainings and tasks, not classes. They say what other trainings and other tasks of the "
    "same classes would give, and nothing about other data sets."
)
FOREST_WORDS = (
    "Each mean and interval is divided by the margin of its row, so that different measures share one axis and the "
    "band means the same in every row. Small points: every seed. Open markers: undecided. Pale rows stand beside a "
    "claim and decide nothing of it. A thin grey line is the interval of all seeds, where it rests on more of them."
)
COLUMNS = (
    "How to read the tables of predictions: mean and interval are of the difference by seed, positive as predicted, "
    "at the look that decided, or the last; level: of that interval; p: one-sided, over all looks, for each of the "
    'three verdicts; mean / sd: over all seeds; last column: the interval of all seeds and how many, or "as left" '
    "where there are no more than at that look."
)
REST = "Estimated from the mean and variance so far, for one look, on as many processes."


def prose(text: str) -> str:
    """Return words with KFO as it is written in sentences; `kfo` is its name in recipes and keys."""
    return re.sub(r"\bkfo\b(?!-)", "KFO", text)


def short_words(claims: Sequence[ClaimResult]) -> str:
    """Return which claims have which verdict, a sentence for each."""
    words = {
        HOLDS: "These claims hold",
        FAILS: "These claims fail",
        NO_EFFECT: "These claims have no relevant effect",
        UNDECIDED: "These claims are undecided",
    }
    found = {verdict: [claim.id for claim in claims if claim.verdict == verdict] for verdict in words}
    return " ".join(f"{words[verdict]}: {', '.join(ids)}." for verdict, ids in found.items() if ids)


def deviation_words(deviations: Sequence[str]) -> str:
    """Return how many deviations from the plan there are, and the first of them."""
    if not deviations:
        return "Deviations from the plan: none."
    first = "" if len(deviations) == 1 else ", the first"
    return f"Deviations from the plan: {len(deviations)}{first}: {deviations[0]}."


def reason(claim: ClaimResult) -> str:
    """Return why a claim has its verdict."""
    rows = {verdict: [row for row in claim.deciding if row.decision.verdict == verdict] for verdict in _ALONE}
    num = len(claim.deciding)
    if failed := [check.name for check in claim.checks if not check.holds]:
        return f"Why: {_are(len(failed), 'exact check fails', 'exact checks fail')}: {'; '.join(failed)}."
    if claim.failed:
        return f"Why: cells that it needs failed: {'; '.join(cell.words for cell in claim.failed)}."
    if claim.verdict == HOLDS:
        return f"Why: {_all_hold(num)}{', and so does every exact check' if claim.checks else ''}."
    if not num:
        return "Why: no deciding prediction has data."
    start = f"Why: of {num} deciding prediction{'s' if num != 1 else ''}, "
    if claim.verdict in (FAILS, NO_EFFECT):
        found = rows[claim.verdict]
        holm = "also" if len(found) == 1 else "at least one of them also"
        names = "; ".join(prose(row.decision.prediction.name) for row in found)
        return f"{start}{_are(len(found), *_ALONE[claim.verdict])}, {holm} after Holm's correction: {names}."
    parts = [_are(len(rows[HOLDS]), *_ALONE[HOLDS])]
    for verdict in (FAILS, NO_EFFECT):
        if of := rows[verdict]:
            parts.append(f"{_are(len(of), *_ALONE[verdict])} by {_itself(of)}, but not after Holm's correction")
    parts += [_are(len(of), *_ALONE[UNDECIDED])] if (of := rows[UNDECIDED]) else []
    parts += [_are(len(claim.missing), "further is without data", "further are without data")] if claim.missing else []
    return f"{start}{'; '.join(parts)}."


# A verdict of one prediction and of several, after their number.
_ALONE = {
    HOLDS: ("holds", "hold"),
    FAILS: ("is on the other side of zero", "are on the other side of zero"),
    NO_EFFECT: ("has no relevant effect", "have no relevant effect"),
    UNDECIDED: (
        "is undecided, as its interval allows several verdicts",
        "are undecided, as their intervals allow several verdicts",
    ),
}


def _are(num: int, one: str, more: str) -> str:
    return f"{num or 'none'} {one if num in (0, 1) else more}"


def _all_hold(num: int) -> str:
    return "its one deciding prediction holds" if num == 1 else f"each of its {num} deciding predictions holds"


def _itself(of: Sequence[object]) -> str:
    return "itself" if len(of) == 1 else "themselves"
