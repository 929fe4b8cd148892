"""The whole procedure on synthetic reproductions: looks, stopping, verdicts of claims, as `docs/statistics.md` shows.

All reproductions are decided at once here, by formulas of their own; a test compares them with `decide`.

Run: python -m tests.helpers.simulated_claims 40000
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from mamlcli.studies.claims.decisions import (
    ALPHA,
    FAILS,
    HOLDS,
    NO_EFFECT,
    UNDECIDED,
    UNTIL_DECIDED,
    Looks,
    Prediction,
    decide,
    one_look,
)

PLANS = {"one look at 4 seeds": one_look(4), "looks at 5, 10, 20 seeds": UNTIL_DECIDED}


def draw(random, effects, num_seeds: int, num: int, *, is_skewed: bool = False):
    """Draw differences [num, predictions, num_seeds] of cells that share a baseline: variance 1, means as given.

    Skewed: exponential differences with a long tail against the prediction, each by itself.
    """
    shape = (num, len(effects) + 1, num_seeds)
    if is_skewed:
        noise = 1.0 - random.exponential(size=shape)[:, 1:]
    else:
        cells = random.normal(size=shape) / np.sqrt(2.0)
        noise = cells[:, 1:] - cells[:, :1]
    return noise + np.asarray(effects, dtype=float)[:, None]


@dataclass
class Decided:
    """How reproductions of one claim ended.

    Attributes:
        claims: the verdict of each, [num].
        seeds: seeds of each prediction when it ended, [num, predictions].
        is_covered: whether the intervals of all looks that were taken hold the true mean, [num, predictions].
    """

    claims: np.ndarray
    seeds: np.ndarray
    is_covered: np.ndarray

    def share(self, *verdicts: str) -> float:
        return float(np.isin(self.claims, verdicts).mean())


def decide_all(differences, effects, margin: float, looks: Looks) -> Decided:
    """Decide a claim in every reproduction; seeds are added to its open predictions until it is decided."""
    shape = differences.shape[:2]
    p_values = np.full((*shape, 3), np.inf)
    verdicts = np.full(shape, UNDECIDED, dtype=object)
    claims = np.full(shape[:1], UNDECIDED, dtype=object)
    is_open, seeds, is_covered = np.ones(shape, bool), np.zeros(shape, int), np.ones(shape, bool)
    for num, alpha in zip(looks.seeds, looks.alphas, strict=True):
        part, degrees = differences[:, :, :num], num - 1
        mean, error = part.mean(axis=2), part.std(axis=2, ddof=1) / np.sqrt(num)
        above = [stdtr(degrees, (bound - mean) / error) for bound in (0.0, -margin, margin)]
        of_look = np.stack([above[0], 1 - above[0], np.maximum(above[1], 1 - above[2])], axis=2)
        p_values = np.where(is_open[..., None], np.minimum(p_values, of_look * ALPHA / alpha), p_values)
        half = stdtrit(degrees, 1 - alpha) * error
        low, high = mean - half, mean + half
        is_small = (-margin < low) & (high < margin)
        new = np.select([is_small, low > 0, high < 0], [NO_EFFECT, HOLDS, FAILS], UNDECIDED)
        verdicts = np.where(is_open & (verdicts == UNDECIDED), new, verdicts)
        seeds = np.where(is_open, num, seeds)
        is_covered &= ~is_open | ((low <= effects) & (effects <= high))
        claims = _claims(verdicts, p_values)
        is_open &= (claims == UNDECIDED)[:, None] & (verdicts != HOLDS)
    return Decided(claims, seeds, is_covered)


def _claims(verdicts, p_values):
    tests = np.concatenate([p_values[..., 1], p_values[..., 2]], axis=1)
    kinds = np.concatenate([np.where(verdicts == word, word, UNDECIDED) for word in (FAILS, NO_EFFECT)], axis=1)
    order = np.argsort(tests, axis=1, kind="stable")
    num_tests = tests.shape[1]
    is_small = np.take_along_axis(tests, order, axis=1) <= ALPHA / (num_tests - np.arange(num_tests))
    is_rejected = np.logical_and.accumulate(is_small, axis=1)
    kinds = np.take_along_axis(kinds, order, axis=1)
    found = [(is_rejected & (kinds == word)).any(axis=1) for word in (FAILS, NO_EFFECT)]
    return np.select([(verdicts == HOLDS).all(axis=1), *found], [HOLDS, FAILS, NO_EFFECT], UNDECIDED)


def decide_one_by_one(differences, margin: float, looks: Looks) -> tuple[list[str], list[list[int]]]:
    """Decide the same with the program's own functions: the verdicts of the claims and the seeds of each prediction."""
    verdicts, all_seeds = [], []
    for of_one in differences:
        seeds, is_open, verdict = [0] * len(of_one), [True] * len(of_one), UNDECIDED
        for num_seeds in looks.seeds:
            seeds = [num_seeds if wanted else old for wanted, old in zip(is_open, seeds, strict=True)]
            given = [Prediction(str(i), "", of_one[i, :num], margin) for i, num in enumerate(seeds)]
            verdict, decisions = decide(given, looks)
            is_open = [verdict == UNDECIDED and decision.verdict != HOLDS for decision in decisions]
        verdicts.append(verdict)
        all_seeds.append(seeds)
    return verdicts, all_seeds


# (words, effects of a claim's predictions, margin, verdicts that would be wrong), in standard deviations of differences
ERRORS = (
    ("no effect in 1 of 4 predictions, 10 in the others", (0.0, 10.0, 10.0, 10.0), 0.01, (HOLDS, FAILS)),
    ("no effect in any of 4", (0.0,) * 4, 0.01, (HOLDS, FAILS)),
    ("no effect in any of 8", (0.0,) * 8, 0.01, (HOLDS, FAILS)),
    ("no effect, 1 prediction", (0.0,), 0.01, (HOLDS, FAILS)),
    ("effect of the margin, 3, in any of 4", (3.0,) * 4, 3.0, (NO_EFFECT, FAILS)),
    ("effect of the margin, 3, 1 prediction", (3.0,), 3.0, (NO_EFFECT, FAILS)),
)
POWER = tuple((size, num) for num in (1, 4, 8) for size in (1.0, 2.0, 3.0, 4.0))


def simulate(effects, margin, looks, num, *, is_skewed=False, seed=0) -> Decided:
    """Draw reproductions and decide them."""
    random = np.random.default_rng(seed)
    differences = draw(random, effects, looks.seeds[-1], num, is_skewed=is_skewed)
    return decide_all(differences, np.asarray(effects, dtype=float), margin, looks)


def tables(num: int) -> str:
    """Return the tables of errors and power as Markdown."""
    lines = ["| truth | " + " | ".join(f"{name}{skew}" for skew in ("", ", skewed") for name in PLANS) + " |"]
    lines.append("|---" * (1 + 2 * len(PLANS)) + "|")
    for words, effects, margin, wrong in ERRORS:
        shares = [
            simulate(effects, margin, looks, num, is_skewed=is_skewed).share(*wrong)
            for is_skewed in (False, True)
            for looks in PLANS.values()
        ]
        lines.append(f"| {words} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")
    covered = [
        simulate((0.0,), 0.01, looks, num, is_skewed=is_skewed).is_covered.mean()
        for is_skewed in (False, True)
        for looks in PLANS.values()
    ]
    lines += [
        "| coverage of the intervals of all looks | " + " | ".join(f"{share:.3f}" for share in covered) + " |",
        "",
    ]
    names = [f"{name}: {what}" for name in PLANS for what in ("holds", "seeds")]
    lines += ["| effect | predictions | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for size, num_predictions in POWER:
        cells = []
        for looks in PLANS.values():
            ended = simulate((size,) * num_predictions, 0.01, looks, num)
            cells += [f"{ended.share(HOLDS):.2f}", f"{ended.seeds.mean():.1f}"]
        lines.append(f"| {size:g} | {num_predictions} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(tables(int(sys.argv[1])) + "\n")
