"""Synthetic task distributions: what is drawn, and from whose randomness."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from mamlcli.tasks.episodes import Episode, TaskDistribution, sample_tasks, task_generator
from mamlcli.tasks.synthetic import LinearRegressionTasks, LogisticTasks, SinusoidTasks, input_spectrum

EVERY_DISTRIBUTION = pytest.mark.parametrize("kind", [LinearRegressionTasks, LogisticTasks, SinusoidTasks])


def draw(tasks: TaskDistribution, indices: range) -> Episode:
    return sample_tasks(tasks, seed=3, split="train", iteration=11, indices=indices)


@EVERY_DISTRIBUTION
def test_task_is_the_same_in_any_batch(kind) -> None:
    tasks = kind(shots=5, queries=6)
    batch = draw(tasks, range(8))
    for i in range(8):
        alone = draw(tasks, range(i, i + 1))
        for part, expected in zip(alone.data(), batch.tasks(i, i + 1).data(), strict=True):
            assert torch.equal(part, expected)
        for name, value in alone.truth.items():
            assert torch.equal(value, batch.truth[name][i : i + 1])


@EVERY_DISTRIBUTION
def test_tasks_of_a_batch_differ(kind) -> None:
    episode = draw(kind(), range(4))
    for value in (episode.support_x, *episode.truth.values()):
        assert len(value.flatten(1).unique(dim=0)) == 4 if value.dim() > 1 else len(value.unique()) == 4


@EVERY_DISTRIBUTION
def test_support_set_does_not_depend_on_the_number_of_queries(kind) -> None:
    few, many = draw(kind(shots=5, queries=2), range(3)), draw(kind(shots=5, queries=40), range(3))
    assert torch.equal(few.support_x, many.support_x)
    assert torch.equal(few.support_y, many.support_y)


@EVERY_DISTRIBUTION
def test_support_and_query_points_differ(kind) -> None:
    episode = draw(kind(shots=5, queries=5), range(1))
    assert not torch.isin(episode.query_x, episode.support_x).any()


@EVERY_DISTRIBUTION
def test_float32_episode_is_the_float64_episode_rounded(kind) -> None:
    single, double = draw(kind(), range(2)), draw(kind(dtype=torch.float64), range(2))
    for part, exact in zip(single.data(), double.data(), strict=True):
        assert torch.equal(part, exact.to(part.dtype))
    for name, value in single.truth.items():
        assert value.dtype == torch.float64
        assert torch.equal(value, double.truth[name])


@EVERY_DISTRIBUTION
def test_episode_goes_to_the_device_and_its_truth_stays(kind) -> None:
    episode = draw(kind(device=torch.device("meta")), range(2))
    assert {part.device.type for part in episode.data()} == {"meta"}
    assert {value.device.type for value in episode.truth.values()} == {"cpu"}


@EVERY_DISTRIBUTION
def test_distribution_is_frozen_and_keyword_only(kind) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().shots = 3
    with pytest.raises(TypeError):
        kind(3)


@pytest.mark.parametrize(
    ("tasks", "input_shape", "num_outputs", "chance_accuracy"),
    [
        (LinearRegressionTasks(dimension=4, shots=5, queries=6), (4,), 1, None),
        (LogisticTasks(dimension=4, shots=5, queries=6), (4,), 2, 0.5),
        (SinusoidTasks(shots=5, queries=6), (1,), 1, None),
    ],
)
def test_episode_has_the_promised_shapes(tasks, input_shape, num_outputs, chance_accuracy) -> None:
    episode = draw(tasks, range(3))
    label_shape = () if tasks.is_classification else (1,)
    label_dtype = torch.int64 if tasks.is_classification else torch.float32
    assert (tasks.input_shape, tasks.num_outputs) == (input_shape, num_outputs)
    assert tasks.chance_accuracy == chance_accuracy
    assert episode.support_x.shape == (3, 5, *input_shape)
    assert episode.query_x.shape == (3, 6, *input_shape)
    assert episode.support_y.shape == (3, 5, *label_shape)
    assert episode.query_y.shape == (3, 6, *label_shape)
    assert episode.support_x.dtype == episode.query_x.dtype == torch.float32
    assert episode.support_y.dtype == episode.query_y.dtype == label_dtype


def assert_sample_covariance(samples: Tensor, expected: Tensor) -> None:
    """Check the second moments of Gaussian samples [num_samples, dimension] of mean zero."""
    covariance = samples.T @ samples / len(samples)
    variances = expected.diagonal()
    # For Gaussians Var(x_i x_j) = S_ii S_jj + S_ij^2. 4.5 standard errors, for there are some 50 entries.
    standard_error = ((torch.outer(variances, variances) + expected.square()) / len(samples)).sqrt()
    assert ((covariance - expected).abs() < 4.5 * standard_error).all()


@pytest.mark.parametrize("kind", [LinearRegressionTasks, LogisticTasks])
def test_inputs_have_the_stated_covariance(kind) -> None:
    tasks = kind(dimension=6, shots=1000, queries=1000, dtype=torch.float64)
    episode = draw(tasks, range(10))
    assert_sample_covariance(episode.support_x.flatten(0, 1), tasks.input_covariance())
    assert_sample_covariance(episode.query_x.flatten(0, 1), tasks.input_covariance())


@pytest.mark.parametrize("kind", [LinearRegressionTasks, LogisticTasks])
def test_weights_have_the_stated_covariance(kind) -> None:
    tasks = kind(dimension=6, shots=1, queries=1, weight_scale=2.0)
    assert_sample_covariance(draw(tasks, range(3000)).truth["weights"], tasks.task_covariance())


def test_input_spectrum_runs_from_one_to_the_inverse_condition_number() -> None:
    expected = torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)
    torch.testing.assert_close(input_spectrum(3, 100.0), expected)
    assert input_spectrum(1, 100.0).tolist() == [1.0]


def test_regression_labels_are_linear_without_noise() -> None:
    episode = draw(LinearRegressionTasks(noise=0.0, dtype=torch.float64), range(3))
    for x, y in ((episode.support_x, episode.support_y), (episode.query_x, episode.query_y)):
        torch.testing.assert_close(torch.einsum("tpd,td->tp", x, episode.truth["weights"]), y.squeeze(-1))


@pytest.mark.parametrize("kind", [LinearRegressionTasks, SinusoidTasks])
def test_noise_changes_the_targets_alone_and_by_its_size(kind) -> None:
    clean = draw(kind(shots=1000, queries=1000, noise=0.0, dtype=torch.float64), range(5))
    noisy = draw(kind(shots=1000, queries=1000, noise=0.3, dtype=torch.float64), range(5))
    assert torch.equal(clean.support_x, noisy.support_x)
    assert torch.equal(clean.query_x, noisy.query_x)
    for difference in (noisy.support_y - clean.support_y, noisy.query_y - clean.query_y):
        # The standard error of the deviation of 5000 normals is sigma / sqrt(10,000); 4 of them.
        assert abs(difference.std().item() - 0.3) < 4 * 0.3 / 100


def test_labels_follow_the_sigmoid_of_the_true_weights() -> None:
    tasks = LogisticTasks(dimension=3, shots=2000, queries=2000, dtype=torch.float64)
    episode = draw(tasks, range(5))
    for x, y in ((episode.support_x, episode.support_y), (episode.query_x, episode.query_y)):
        probability = torch.sigmoid(torch.einsum("tpd,td->tp", x, episode.truth["weights"]))
        # E[(y - p) | x] = 0 with variance p (1 - p), overall and weighted by p; 4 standard errors.
        for factor in (torch.ones_like(probability), probability):
            excess = (factor * (y - probability)).sum()
            assert excess.abs() < 4 * (factor.square() * probability * (1 - probability)).sum().sqrt()


def test_label_noise_flips_labels_at_its_rate() -> None:
    clean = draw(LogisticTasks(shots=2000, queries=2000, label_noise=0.0), range(5))
    noisy = draw(LogisticTasks(shots=2000, queries=2000, label_noise=0.2), range(5))
    assert torch.equal(clean.support_x, noisy.support_x)
    for flipped in (clean.support_y != noisy.support_y, clean.query_y != noisy.query_y):
        # Binomial, 10,000 draws; 4 standard errors.
        assert abs(flipped.double().mean().item() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 10_000)


def test_sinusoid_targets_are_the_true_function() -> None:
    episode = draw(SinusoidTasks(dtype=torch.float64), range(3))
    for i in range(3):
        amplitude, phase_rad = float(episode.truth["amplitude"][i]), float(episode.truth["phase_rad"][i])
        for x, y in zip(episode.query_x[i].flatten(), episode.query_y[i].flatten(), strict=True):
            assert y.item() == pytest.approx(amplitude * math.sin(x.item() - phase_rad), abs=1e-12)


def test_sinusoid_draws_fill_their_ranges() -> None:
    episode = draw(SinusoidTasks(), range(1000))
    drawn = {
        (0.1, 5.0): episode.truth["amplitude"],
        (0.0, math.pi): episode.truth["phase_rad"],
        (-5.0, 5.0): torch.cat([episode.support_x, episode.query_x]).flatten(),
    }
    for (low, high), values in drawn.items():
        width = high - low
        assert low <= values.min() < low + 0.02 * width
        assert high - 0.02 * width < values.max() <= high
        # A uniform has deviation width / sqrt(12); 4 standard errors.
        tolerance = 4 * width / math.sqrt(12 * values.numel())
        assert abs(values.double().mean().item() - (low + high) / 2) < tolerance


# Numbers of points and inputs around those at which torch changes how it draws and computes (8 and 16 at a time).
SIZES = ((1, 1, 1), (3, 2, 1), (10, 10, 10), (13, 17, 5), (40, 33, 20))


def drawn_one_by_one(kind):
    """Return the tasks of three keys, each drawn by calls of its own, one for every line of its definition."""

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def uniform(*shape, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

    def points(number):
        if isinstance(kind, SinusoidTasks):
            x = uniform(number, 1, low=-5.0, high=5.0)
            return x, amplitude * torch.sin(x - phase) + kind.noise * normal(number, 1)
        x = normal(number, kind.dimension) * input_spectrum(kind.dimension, kind.condition_number).sqrt()
        if isinstance(kind, LogisticTasks):
            clean = uniform(number) < torch.sigmoid((x * weights).sum(dim=-1))
            return x, (clean ^ (uniform(number) < kind.label_noise)).long()
        return x, ((x * weights).sum(dim=-1) + kind.noise * normal(number)).unsqueeze(-1)

    tasks = []
    for index in range(3):
        generator = task_generator(4, "train", 7, index)
        if isinstance(kind, SinusoidTasks):
            amplitude, phase = uniform(low=0.1, high=5.0), uniform(low=0.0, high=math.pi)
        else:
            weights = kind.weight_scale * normal(kind.dimension)
        tasks.append((*points(kind.shots), *points(kind.queries)))
    return [torch.stack(parts) for parts in zip(*tasks, strict=True)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["linear", "logistic", "sinusoid"])
def test_a_batch_has_bit_for_bit_the_tasks_drawn_one_by_one(name, size) -> None:
    shots, queries, dimension = size
    keys = {"shots": shots, "queries": queries, "dtype": torch.float64}
    kind = {
        "linear": LinearRegressionTasks(dimension=dimension, weight_scale=2.5, **keys),
        "logistic": LogisticTasks(dimension=dimension, label_noise=0.1, **keys),
        "sinusoid": SinusoidTasks(noise=0.1, **keys),
    }[name]
    episode = sample_tasks(kind, seed=4, split="train", iteration=7, indices=range(3))  # type: ignore[arg-type]
    for part, expected in zip(episode.data(), drawn_one_by_one(kind), strict=True):
        assert torch.equal(part, expected)
