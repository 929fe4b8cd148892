"""The task of noise, and what a trained model makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

from mamlcli.deploy.noise import NOISE_OUTPUTS, noise_outputs, noise_task, write_noise_outputs
from mamlcli.engine.objective import MetaParams
from tests.helpers.models import GLYPHS, opened


def test_noise_task_is_the_same_everywhere():
    support_x, support_y, query_x = noise_task((1, 2, 3), 3, is_classification=True)
    assert support_x.shape == query_x.shape == (6, 1, 2, 3)
    assert support_y.tolist() == [0, 0, 1, 1, 2, 2]
    assert not torch.equal(support_x, query_x)
    # Models that are shipped have outputs for these numbers.
    assert support_x.flatten()[:2].tolist() == [0.8223094344139099, 0.10730677843093872]
    points, targets, _ = noise_task((4,), 1, is_classification=False)
    assert (points.shape, targets.shape) == ((10, 4), (10, 1))


@pytest.mark.parametrize("name", ["one", "sinusoid"])
def test_outputs_are_those_of_gradient_steps_written_by_hand(trained, name):
    run = opened(trained / name)
    network, recipe = run.experiment.network, run.recipe
    is_classification = recipe.is_classification
    support_x, support_y, query_x = noise_task(
        network.input_shape, network.num_outputs, is_classification=is_classification
    )
    phi = dict(run.meta.model)
    for _ in range(recipe.evaluation.steps or recipe.inner.steps):
        leaves = {key: value.clone().requires_grad_(True) for key, value in phi.items()}
        outputs = functional_call(network, leaves, (support_x,))
        if is_classification:
            loss = functional.cross_entropy(outputs, support_y)
        else:
            loss = 0.5 * functional.mse_loss(outputs, support_y)
        slopes = torch.autograd.grad(loss, list(leaves.values()))
        phi = {key: phi[key] - recipe.inner.lr * slope for key, slope in zip(phi, slopes, strict=True)}
    expected = functional_call(network, phi, (query_x,))
    np.testing.assert_allclose(noise_outputs(run), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_outputs_are_written_as_an_array_and_depend_on_the_weights(tmp_path):
    run = opened(GLYPHS)
    write_noise_outputs(tmp_path, run)
    stored = np.load(tmp_path / NOISE_OUTPUTS)
    assert (stored.shape, stored.dtype) == ((10, 5), np.dtype("<f4"))
    assert stored.tolist() == noise_outputs(run).tolist()
    other = replace(run, meta=MetaParams.from_flat({name: 1.02 * value for name, value in run.meta.flat().items()}))
    assert np.abs(noise_outputs(other) - stored).max() > 0.01 * np.abs(stored).max()
