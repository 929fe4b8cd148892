"""Compute the Bayes predictive of logistic tasks, the floor of every method, by importance sampling."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr, ndtri

from mamlcli.tasks.episodes import ReferenceScores

# Weights drawn for a task. Tasks whose effective sample size is below the bound are sampled anew with the next number.
NUM_SAMPLES = (1024, 8192, 65536)
LEAST_EFFECTIVE = 50.0

# The proposal is a Student t: its tails are heavier than those of the posterior.
DEGREES_OF_FREEDOM = 20

# A sigmoid(z) is close to Phi(z / 1.702), within 0.0095 (Camilli 1994, J. Educational and Behavioral Statistics 19).
PROBIT_SCALE = 1.702

PROPAGATION_STEPS = 10
DAMPING = 0.8

# Numbers held at once: margins of all points for all samples of the tasks of a chunk (8 MB).
CHUNK_SIZE = 2**20


def bayes_predictive_scores(
    support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor, *, weight_scale: float, label_noise: float
) -> ReferenceScores:
    """Score the Bayes predictive on the query sets: no function of the support set has a lower expected outer loss.

    P(y | x, support set) = E_{w | support set}[ eps + (1 - 2 eps) sigmoid((2 y - 1) w.x) ] for the prior
    w ~ N(0, weight_scale^2 I), which is that of the tasks. Loss = mean of -log P(y | x, support set); the class of the
    greater probability is predicted.

    The expectation is over weights from a proposal, weighted by posterior / proposal density. Proposal: Student t
    with mean and scale matrix of the Gaussian that expectation propagation finds. All tasks use the same scrambled
    Sobol points, so a task's scores depend neither on its batch nor on a generator.

    Args:
        support_x, query_x: [num_tasks, num_points, dimension], float64.
        support_y, query_y: [num_tasks, num_points], int64 in {0, 1}.
        weight_scale: standard deviation of each true weight.
        label_noise: eps, the probability that a label is flipped, in [0, 0.5).

    Returns:
        loss and accuracy, each [num_tasks] float64; `doubtful` are tasks whose effective sample size is below 50 with
        65,536 weights. On recipes/logistic.yaml a task's loss has an error of about 0.02; the mean over tasks is too
        high by about 0.0025 of 0.30, as the logarithm is concave.

    Source: importance sampling, self-normalised, and its effective sample size 1 / sum of squared weights: Owen 2013,
        Monte Carlo theory, methods and examples, chapter 9; expectation propagation: Rasmussen, Williams 2006,
        Gaussian Processes for Machine Learning, section 3.6.
    Differs from the source: all sites at once, damped, ten steps, with probit for the logistic likelihood (the proposal
        alone: importance weights are of the exact posterior).
    """
    signed = (2.0 * support_y.double() - 1.0).unsqueeze(-1) * support_x
    signed_query = (2.0 * query_y.double() - 1.0).unsqueeze(-1) * query_x
    mean, factor = gaussian_posterior(signed, weight_scale=weight_scale, label_noise=label_noise)
    probability = support_x.new_empty(query_x.shape[:2])
    effective = support_x.new_zeros(support_x.shape[0])
    for num_samples in NUM_SAMPLES:
        points = (support_x.shape[1] + query_x.shape[1] + 1) * num_samples
        unsure = (effective < LEAST_EFFECTIVE).nonzero().flatten()
        for rows in torch.split(unsure, max(1, CHUNK_SIZE // points)):
            if len(rows):
                proposal = (mean[rows], factor[rows])
                probability[rows], effective[rows] = _predictive(
                    signed[rows], signed_query[rows], proposal, num_samples, weight_scale, label_noise
                )
    return ReferenceScores(
        loss=-probability.log().mean(dim=-1),
        accuracy=(probability > 0.5).double().mean(dim=-1),
        doubtful=(effective < LEAST_EFFECTIVE).double(),
    )


def _predictive(
    signed: Tensor,
    signed_query: Tensor,
    proposal: tuple[Tensor, Tensor],
    num_samples: int,
    weight_scale: float,
    label_noise: float,
) -> tuple[Tensor, Tensor]:
    """Return the probability of each query point's label, [num_tasks, num_query], and effective sample sizes."""
    mean, factor = proposal
    deviations, log_density = _student_points(num_samples, mean.shape[-1])
    weights = mean.unsqueeze(-1) + factor @ deviations  # [num_tasks, dimension, num_samples]
    margins = signed @ weights
    # The same; the first does not underflow, the second is faster and cannot, as eps > 0.
    log_likelihood = (
        logsigmoid(margins)
        if label_noise == 0
        else torch.sigmoid(margins).mul_(1 - 2 * label_noise).add_(label_noise).log_()
    )
    log_prior = -0.5 * weights.square().sum(dim=1) / weight_scale**2
    importance = torch.softmax(log_likelihood.sum(dim=1) + log_prior - log_density, dim=-1)
    clean = torch.sigmoid(signed_query @ weights) @ importance.unsqueeze(-1)
    # Rounding may take it beyond [0, 1], and where every sigmoid is zero the logarithm must stay finite.
    clean = clean.squeeze(-1).clamp(min=torch.finfo(clean.dtype).tiny, max=1.0)
    return label_noise + (1 - 2 * label_noise) * clean, 1 / importance.square().sum(dim=-1)


@lru_cache(maxsize=4)
def _student_points(num_samples: int, dimension: int) -> tuple[Tensor, Tensor]:
    """Return points of the standard Student t, [dimension, num_samples], and their log density up to a constant."""
    from scipy.special import gammaincinv  # slow to import, and few commands need it

    engine = torch.quasirandom.SobolEngine(dimension + 1, scramble=True, seed=0)  # type: ignore[no-untyped-call]
    # Keeps 0, which a scrambled point may be, from becoming an infinite deviation.
    uniform = engine.draw(num_samples, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
    half = DEGREES_OF_FREEDOM / 2
    # Chi-squared over its degrees of freedom: gamma of shape `half`, divided by it.
    scale = torch.from_numpy(gammaincinv(half, uniform[:, -1].numpy())) / half
    deviations = ndtri(uniform[:, :-1]) / scale.sqrt().unsqueeze(-1)
    log_density = -(half + dimension / 2) * torch.log1p(deviations.square().sum(dim=-1) / DEGREES_OF_FREEDOM)
    return deviations.T.contiguous(), log_density


def gaussian_posterior(signed_x: Tensor, *, weight_scale: float, label_noise: float) -> tuple[Tensor, Tensor]:
    """Return a Gaussian with about the mean and covariance of the posterior of the weights.

    Each support point's likelihood eps + (1 - 2 eps) Phi(margin / 1.702) is replaced by a Gaussian of the margin, its
    site, of precision tau and tau * mean nu, that gives the moments it has beside the sites of all others.

    Args:
        signed_x: (2 y - 1) x, [num_tasks, num_support, dimension], float64.
        weight_scale: standard deviation of each true weight.
        label_noise: eps.

    Returns:
        mean [num_tasks, dimension] and a factor F [num_tasks, dimension, dimension] with F F^T the covariance.

    Source: Rasmussen, Williams 2006, section 3.6, equations 3.55 to 3.59. Differs from the source: as said above; with
        label noise a site's precision is kept at zero or above.
    """
    prior = torch.eye(signed_x.shape[-1], dtype=signed_x.dtype) / weight_scale**2
    tau, nu = (signed_x.new_zeros(signed_x.shape[:2]) for _ in range(2))
    for step in range(PROPAGATION_STEPS + 1):
        lower = torch.linalg.cholesky(prior + (signed_x * tau.unsqueeze(-1)).mT @ signed_x)
        mean = torch.cholesky_solve(signed_x.mT @ nu.unsqueeze(-1), lower)
        if step == PROPAGATION_STEPS:
            break
        variance = torch.linalg.solve_triangular(lower, signed_x.mT, upper=False).square().sum(dim=1)
        new_tau, new_nu = _sites((signed_x @ mean).squeeze(-1), variance, tau, nu, label_noise)
        tau, nu = torch.lerp(tau, new_tau, DAMPING), torch.lerp(nu, new_nu, DAMPING)
    identity = torch.eye(lower.shape[-1], dtype=lower.dtype).expand_as(lower)
    return mean.squeeze(-1), torch.linalg.solve_triangular(lower.mT, identity, upper=True)


def _sites(margin: Tensor, variance: Tensor, tau: Tensor, nu: Tensor, label_noise: float) -> tuple[Tensor, Tensor]:
    """Return the sites' new tau and nu from the margins' means and variances, all [num_tasks, num_support]."""
    variance = variance.clamp(min=1e-100)  # an input of zeros has none
    # In exact arithmetic the site has a part of the precision; rounding could take all of it.
    without_variance = 1 / torch.maximum(1 / variance - tau, 1e-10 / variance)
    without_mean = without_variance * (margin / variance - nu)
    spread = (PROBIT_SCALE**2 + without_variance).sqrt()
    z = without_mean / spread
    clean = math.log1p(-2 * label_noise) + log_ndtr(z)
    by_chance = math.log(label_noise) if label_noise > 0 else -math.inf
    log_normaliser = torch.logaddexp(clean, torch.full_like(clean, by_chance))
    log_normal = math.log1p(-2 * label_noise) - 0.5 * z.square() - 0.5 * math.log(2 * math.pi)
    slope = torch.exp(log_normal - log_normaliser) / spread
    curvature = slope * (slope + z / spread)
    new_tau = (curvature / (1 - without_variance * curvature)).clamp(min=0.0)
    new_mean = without_mean + without_variance * slope
    return new_tau, new_mean * (1 / without_variance + new_tau) - without_mean / without_variance
