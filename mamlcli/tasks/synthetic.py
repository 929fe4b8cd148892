"""Draw tasks with known answers: linear regression, logistic classification, sinusoids.

Here `shots` and `queries` are the support and query POINTS of a task in all. (For image tasks they count
examples per class; in a generative task the classes come out as chance has it.)

The support set is drawn before the query set, so it is the same for any number of queries. Noise scales draws that are
always made, so distributions that differ in noise alone share the rest. How a batch is drawn: see `draws`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mamlcli.tasks.bayes_predictive import bayes_predictive_scores
from mamlcli.tasks.draws import between, draw, empty, episode_of, linear_outputs
from mamlcli.tasks.episodes import Episode, ReferenceScores, TaskDistribution
from mamlcli.tasks.references import (
    classification_scores,
    map_logistic_weights,
    posterior_mean_weights,
    regression_scores,
)

CPU = torch.device("cpu")


def input_spectrum(dimension: int, condition_number: float) -> Tensor:
    """Return the eigenvalues of the input covariance, [dimension] float64.

    Log-spaced from 1 down to 1 / condition_number. The largest is always 1, so gradient descent on half the
    squared error (many points) is stable for inner_lr < 2 whatever the condition number.
    """
    assert dimension >= 1, dimension
    assert condition_number >= 1, condition_number
    return torch.logspace(0.0, -math.log10(condition_number), dimension, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class LinearRegressionTasks:
    """Linear regression tasks draw t ~ N(0, weight_scale^2 I), x ~ N(0, Sx), y = t.x + noise * eps, eps ~ N(0, 1).

    Sx is diagonal with the eigenvalues of `input_spectrum`, not rotated: a method that learns one scale per
    weight (Meta-SGD) can precondition these tasks perfectly, as a full matrix can.

    Attributes:
        dimension: number of inputs.
        shots: support points of a task.
        queries: query points of a task.
        noise: sigma, standard deviation of the label noise, on support and query labels alike.
        condition_number: largest over smallest eigenvalue of Sx.
        weight_scale: standard deviation of each true weight.
        dtype: of the inputs and targets.
        device: of the inputs and targets.

    Source: the setting of Arnold, Iqbal, Sha 2021, arXiv 1910.13603: tasks that a shallow model can solve.
    Differs from the source: dimension, spectrum, noise and numbers of points are our choice.
    """

    dimension: int = 10
    shots: int = 100
    queries: int = 100
    noise: float = 0.3
    condition_number: float = 100.0
    weight_scale: float = 1.0
    dtype: torch.dtype = torch.float32
    device: torch.device = CPU

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.dimension,)

    @property
    def num_outputs(self) -> int:
        return 1

    @property
    def is_classification(self) -> bool:
        return False

    @property
    def chance_accuracy(self) -> float | None:
        return None

    def input_covariance(self) -> Tensor:
        """Return Sx, [dimension, dimension] float64."""
        return torch.diag(input_spectrum(self.dimension, self.condition_number))

    def task_covariance(self) -> Tensor:
        """Return St = E[t t^T], [dimension, dimension] float64."""
        return self.weight_scale**2 * torch.eye(self.dimension, dtype=torch.float64)

    def sample(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw one task per generator; truth: `weights` [num_tasks, dimension]."""
        num_tasks, sizes = len(generators), (self.shots, self.queries)
        weights = empty(num_tasks, self.dimension)
        inputs = [empty(num_tasks, size, self.dimension) for size in sizes]
        noise = [empty(num_tasks, size) for size in sizes]
        draw(generators, [(part, "normal") for part in (weights, inputs[0], noise[0], inputs[1], noise[1])])
        weights.mul_(self.weight_scale)
        input_std = input_spectrum(self.dimension, self.condition_number).sqrt()
        points = []
        for x, epsilon in zip(inputs, noise, strict=True):
            x.mul_(input_std)
            points.append((x, (linear_outputs(weights, x) + self.noise * epsilon).unsqueeze(-1)))
        return episode_of(points, {"weights": weights}, dtype=self.dtype, device=self.device)

    def references(self, episode: Episode) -> dict[str, ReferenceScores]:
        """Score the posterior mean (no method does better) and the true weights (the noise alone)."""
        support_x, support_y, query_x, query_y = (part.cpu().double() for part in episode.data())
        posterior_mean = posterior_mean_weights(
            support_x, support_y.squeeze(-1), noise=self.noise, weight_scale=self.weight_scale
        )
        candidates = {"posterior mean": posterior_mean, "true weights": episode.truth["weights"]}
        return {
            name: regression_scores(torch.einsum("tpd,td->tp", query_x, weights), query_y.squeeze(-1))
            for name, weights in candidates.items()
        }


@dataclass(frozen=True, kw_only=True)
class LogisticTasks:
    """Logistic tasks draw x ~ N(0, Sx) and one of two classes by a sigmoid of t.x, flipped with probability eps.

    t ~ N(0, weight_scale^2 I), P(y = 1 | x) = eps + (1 - 2 eps) sigmoid(t.x), eps the label noise.
    Sx as in `LinearRegressionTasks`. A network has two outputs and a softmax, as for any classification; the
    w.x of the references is the difference of its two outputs. A support set may lack a class.

    Attributes:
        dimension: number of inputs.
        shots: support points of a task, of both classes together.
        queries: query points of a task, of both classes together.
        label_noise: eps, the probability that a label is flipped, support and query alike, in [0, 0.5).
        condition_number: largest over smallest eigenvalue of Sx.
        weight_scale: standard deviation of each true weight; the larger, the surer the labels.
        dtype: of the inputs; labels are int64.
        device: of inputs and labels.

    Source: the setting of Arnold, Iqbal, Sha 2021, arXiv 1910.13603: tasks that a shallow model can solve.
    Differs from the source: the generative model, its dimension and its numbers of points are our choice.
    """

    dimension: int = 20
    shots: int = 100
    queries: int = 100
    label_noise: float = 0.0
    condition_number: float = 100.0
    weight_scale: float = 1.0
    dtype: torch.dtype = torch.float32
    device: torch.device = CPU

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.dimension,)

    @property
    def num_outputs(self) -> int:
        return 2

    @property
    def is_classification(self) -> bool:
        return True

    @property
    def chance_accuracy(self) -> float | None:
        return 0.5

    def input_covariance(self) -> Tensor:
        """Return Sx, [dimension, dimension] float64."""
        return torch.diag(input_spectrum(self.dimension, self.condition_number))

    def task_covariance(self) -> Tensor:
        """Return St = E[t t^T], [dimension, dimension] float64."""
        return self.weight_scale**2 * torch.eye(self.dimension, dtype=torch.float64)

    def sample(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw one task per generator; truth: `weights` [num_tasks, dimension]."""
        num_tasks, sizes = len(generators), (self.shots, self.queries)
        weights = empty(num_tasks, self.dimension)
        inputs = [empty(num_tasks, size, self.dimension) for size in sizes]
        # The first half decides the label before a flip, the second whether it is flipped.
        chances = [empty(num_tasks, 2, size) for size in sizes]
        draw(
            generators,
            [
                (weights, "normal"),
                (inputs[0], "normal"),
                (chances[0], "uniform"),
                (inputs[1], "normal"),
                (chances[1], "uniform"),
            ],
        )
        weights.mul_(self.weight_scale)
        input_std = input_spectrum(self.dimension, self.condition_number).sqrt()
        points = []
        for x, chance in zip(inputs, chances, strict=True):
            x.mul_(input_std)
            probabilities = linear_outputs(weights, x)
            for probabilities_of_task in probabilities.unbind():
                probabilities_of_task.sigmoid_()
            clean = chance[:, 0] < probabilities
            points.append((x, (clean ^ (chance[:, 1] < self.label_noise)).long()))
        return episode_of(points, {"weights": weights}, dtype=self.dtype, device=self.device)

    def references(self, episode: Episode) -> dict[str, ReferenceScores]:
        """Score the Bayes predictive (no method does better), MAP (a baseline), the true weights (the noise alone)."""
        support_x, query_x = episode.support_x.cpu().double(), episode.query_x.cpu().double()
        support_y, query_y = episode.support_y.cpu(), episode.query_y.cpu()
        bayes = bayes_predictive_scores(
            support_x, support_y, query_x, query_y, weight_scale=self.weight_scale, label_noise=self.label_noise
        )
        map_weights = map_logistic_weights(
            support_x, support_y, weight_scale=self.weight_scale, label_noise=self.label_noise
        )
        candidates = {"MAP": map_weights, "true weights": episode.truth["weights"]}
        return {"Bayes predictive": bayes} | {
            name: classification_scores(weights, query_x, query_y, label_noise=self.label_noise)
            for name, weights in candidates.items()
        }


@dataclass(frozen=True, kw_only=True)
class SinusoidTasks:
    """Sinusoid tasks draw y = amplitude * sin(x - phase) + noise * eps, all but eps uniform in their ranges.

    Attributes:
        shots: support points of a task.
        queries: query points of a task.
        noise: standard deviation of the label noise, on support and query labels alike.
        amplitude_range: least and greatest amplitude.
        phase_range_rad: least and greatest phase, in radians.
        input_range: least and greatest x.
        dtype: of the inputs and targets.
        device: of the inputs and targets.

    Source: Finn, Abbeel, Levine 2017, arXiv 1703.03400, section 5.1 (all ranges).
    Differs from the source: the loss is half the mean squared error, there the whole; the noise is our
        addition, off by default; the phase is subtracted, its sign there is left open in the text.
    """

    shots: int = 10
    queries: int = 10
    noise: float = 0.0
    amplitude_range: tuple[float, float] = (0.1, 5.0)
    phase_range_rad: tuple[float, float] = (0.0, math.pi)
    input_range: tuple[float, float] = (-5.0, 5.0)
    dtype: torch.dtype = torch.float32
    device: torch.device = CPU

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (1,)

    @property
    def num_outputs(self) -> int:
        return 1

    @property
    def is_classification(self) -> bool:
        return False

    @property
    def chance_accuracy(self) -> float | None:
        return None

    def sample(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw one task per generator; truth: `amplitude` and `phase_rad`, each [num_tasks]."""
        num_tasks, sizes = len(generators), (self.shots, self.queries)
        first = empty(num_tasks, 2 + self.shots)
        inputs = (first[:, 2:], empty(num_tasks, self.queries))
        noise = [empty(num_tasks, size, 1) for size in sizes]
        draw(generators, [(first, "uniform"), (noise[0], "normal"), (inputs[1], "uniform"), (noise[1], "normal")])
        amplitude = between(*self.amplitude_range, first[:, 0])
        phase_rad = between(*self.phase_range_rad, first[:, 1])
        points = []
        for chance, epsilon in zip(inputs, noise, strict=True):
            x = between(*self.input_range, chance).unsqueeze(-1)
            waves = x - phase_rad[:, None, None]
            for wave in waves.unbind():
                wave.sin_()
            points.append((x, amplitude[:, None, None] * waves + self.noise * epsilon))
        truth = {"amplitude": amplitude, "phase_rad": phase_rad}
        return episode_of(points, truth, dtype=self.dtype, device=self.device)

    def references(self, episode: Episode) -> dict[str, ReferenceScores]:
        """Score the true function (the noise alone)."""
        query_x, query_y = (part.cpu().double().squeeze(-1) for part in (episode.query_x, episode.query_y))
        amplitude, phase_rad = (episode.truth[name].unsqueeze(-1) for name in ("amplitude", "phase_rad"))
        return {"true function": regression_scores(amplitude * torch.sin(query_x - phase_rad), query_y)}


class SyntheticTasks(Protocol):
    """Synthetic tasks are made by a class that takes these keys; other keys of the class have defaults."""

    def __call__(self, *, shots: int, queries: int, dtype: torch.dtype, device: torch.device) -> TaskDistribution: ...


# The synthetic sources by their name in recipes, `tasks.source`; the keys of a recipe are the arguments.
SYNTHETIC: dict[str, SyntheticTasks] = {
    "linear-regression": LinearRegressionTasks,
    "logistic": LogisticTasks,
    "sinusoid": SinusoidTasks,
}
