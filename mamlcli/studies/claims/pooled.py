"""The means of one comparison in several studies become one, with how far the studies differ. It decides nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc, stdtrit


@dataclass(frozen=True)
class Pooled:
    """A pooled mean is the mean effect over the studies that could have been made, of which these are a sample.

    Attributes:
        num: studies.
        mean: over studies.
        half_width: of its 95 % interval over studies; NaN with one study.
        between: standard deviation tau of the true effects between studies, in the units of the effects.
        q: Cochran's Q; `num - 1` is expected where all studies have the same effect.
        p_same: p-value of Q against the same effect in all studies; NaN with one.
        i_squared: share of the variance of the studies' means that is between studies, in [0, 1].
    """

    num: int
    mean: float
    half_width: float
    between: float
    q: float
    p_same: float
    i_squared: float


def pooled_mean(means: ArrayLike, standard_errors: ArrayLike) -> Pooled | None:
    """Return the mean of a comparison over studies by a random-effects model; None where no study has an error.

    With v_i the squared standard errors, w_i = 1 / v_i and m_w their weighted mean:

        Q = sum w_i (m_i - m_w)^2,   tau^2 = max(0, (Q - (k - 1)) / (sum w_i - sum w_i^2 / sum w_i)),
        I^2 = max(0, (Q - (k - 1)) / Q)

    and with u_i = 1 / (v_i + tau^2) the mean m = sum u_i m_i / sum u_i and its interval

        m +- t_{k-1}(0.975) sqrt(max(1, q) / sum u_i),   q = sum u_i (m_i - m)^2 / (k - 1)

    Effects differ between sources of tasks, so that weights by precision alone would ask for the effect of one
    source, and equal weights would ignore that one study may know little. With few studies the interval is wide.

    Args:
        means: [k] float, of each study's paired differences, in the same units.
        standard_errors: [k] float, of those means over seeds; a study in which either is no number, or in which the
            error is zero, is left out.

    Source: DerSimonian and Laird 1986, Controlled Clinical Trials 7; interval of Hartung and Knapp 2001, Statistics in
    Medicine 20. Differs from them: q is at least 1, so that the interval is never narrower than the studies' own errors
    make it (Roever, Knapp and Friede 2015). Errors from few seeds are taken as known: Q is then too large, by about
    (n - 1) / (n - 3) with n seeds.
    """
    values, errors = np.asarray(means, dtype=np.float64), np.asarray(standard_errors, dtype=np.float64)
    assert values.shape == errors.shape
    is_known = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    values, variances = values[is_known], errors[is_known] ** 2
    num = len(values)
    if not num:
        return None
    weights = 1.0 / variances
    q = float(np.sum(weights * (values - np.average(values, weights=weights)) ** 2))
    if num == 1:
        return Pooled(1, float(values[0]), math.nan, 0.0, 0.0, math.nan, 0.0)
    above = max(0.0, q - (num - 1))
    between = above / float(np.sum(weights) - np.sum(weights**2) / np.sum(weights))
    weights = 1.0 / (variances + between)
    mean = float(np.average(values, weights=weights))
    spread = float(np.sum(weights * (values - mean) ** 2)) / (num - 1)
    half_width = float(stdtrit(num - 1, 0.975)) * math.sqrt(max(1.0, spread) / float(np.sum(weights)))
    return Pooled(num, mean, half_width, math.sqrt(between), q, float(chdtrc(num - 1, q)), above / q if q else 0.0)
