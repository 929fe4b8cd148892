"""The best inner learning rate of a model is searched for here, from the scores of rates that were tried.

The search begins at three rates a factor of two apart. It grows by a factor of two on the side where the best one
is at the end, until the best is inside; then it is refined once, by a factor of sqrt 2 on both sides of the best. A
coarse grid that ends below the best rate of one model and not of the other decides a comparison by the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

# No rate outside these is tried.
LOWEST, HIGHEST = 1e-4, 100.0

INSIDE, AT_LOWER, AT_UPPER = "inside the grid", "at the lower bound of the search", "at the upper bound of the search"


def next_rates(scores: Mapping[float, float], start: float) -> tuple[float, ...]:
    """Return the rates that must be tried next; none where the search is over.

    The search is a function of the scores alone, so that it goes on where it was cut.

    Args:
        scores: rate -> query loss, of all rates that were tried; infinite where a training diverged.
        start: the rate in the middle of the first grid.
    """
    grid = _grid(scores, start)
    if missing := [index for index in grid if _rate(start, index) not in scores]:
        return tuple(_rate(start, index) for index in missing)
    around = _around(_best(scores, start, grid), start)
    return tuple(rate for rate in around if rate not in scores)


def chosen_rate(scores: Mapping[float, float], start: float) -> float | None:
    """Return the rate with the lowest loss, of equals the one nearest to the start; None where all diverged."""
    finite = [rate for rate, loss in scores.items() if math.isfinite(loss)]
    return min(finite, key=lambda rate: (scores[rate], abs(math.log(rate / start)), rate), default=None)


def refined_rates(scores: Mapping[float, float], start: float) -> tuple[float, ...]:
    """Return the rates of a search that is over which stand between those a factor of two apart."""
    return _around(_best(scores, start, _grid(scores, start)), start)


def where_best_is(scores: Mapping[float, float], start: float) -> str:
    """Return in words where in its grid the best rate of a search that is over is."""
    grid = _grid(scores, start)
    best = _best(scores, start, grid)
    return INSIDE if grid[0] < best < grid[-1] else AT_LOWER if best == grid[0] else AT_UPPER


def _grid(scores: Mapping[float, float], start: float) -> list[int]:
    """Return the grid as far as the scores lead it, as steps of a factor of two from the start.

    It ends with a rate that has no score yet, or with the best inside it, or at a bound.
    """
    grid = [step for step in (-1, 0, 1) if _is_allowed(start, step)]
    while all(_rate(start, step) in scores for step in grid):
        best = _best(scores, start, grid)
        if best == grid[0] and _is_allowed(start, best - 1):
            grid.insert(0, best - 1)
        elif best == grid[-1] and _is_allowed(start, best + 1):
            grid.append(best + 1)
        else:
            break
    return grid


def _best(scores: Mapping[float, float], start: float, grid: list[int]) -> int:
    """Return the step with the lowest loss; of equals the one nearest to the start, or the lowest if all diverged.

    Where all diverged, only smaller rates are of use.
    """
    losses = {step: scores[_rate(start, step)] for step in grid}
    if all(math.isinf(loss) for loss in losses.values()):
        return grid[0]
    return min(grid, key=lambda step: (losses[step], abs(step), step))


def _around(step: int, start: float) -> tuple[float, ...]:
    """Return the rates a factor of sqrt 2 below and above a step."""
    return tuple(_rate(start, step + half) for half in (-0.5, 0.5) if _is_allowed(start, step + half))


def _rate(start: float, step: float) -> float:
    """Return start * 2^step to four digits: such rates stand in the names of folders."""
    return float(f"{start * 2.0**step:.4g}")


def _is_allowed(start: float, step: float) -> bool:
    return LOWEST <= _rate(start, step) <= HIGHEST
