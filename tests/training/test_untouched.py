"""Scoring leaves weights, optimizer and every generator as they were, bit for bit, whatever the method."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from mamlcli.engine.state import new_state
from mamlcli.training.functions import training_execution, training_functions
from mamlcli.training.scoring import ScoredTasks, score_each
from tests.helpers.running import built, noise_pack

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = (
    *(f"inner.algorithm={name}" for name in ("maml", "fomaml", "anil", "boil")),
    *(f"inner.transform={name}" for name in ("meta-sgd", "meta-curvature", "kfo", "kfo-mlp")),
    "inner.transform={name: kfo, adapted: true}",
    "inner.rates=tensor-step",
    "inner.head=zero",
    "inner.memory=constant",
    "execution.path=batched",
    "evaluation.batch_norm=support",
)


def generators() -> list[object]:
    """Return the state of every generator that is shared by all of a process."""
    of_torch = [torch.random.get_rng_state()]
    if torch.cuda.is_available():
        of_torch += torch.cuda.get_rng_state_all()
    return [repr(np.random.get_state()), random.getstate(), *(state.numpy().tobytes() for state in of_torch)]


def bits(state) -> dict[str, bytes]:
    """Return the bytes of all tensors of a state of training: meta-parameters, and those of the optimizer."""
    return {name: value.numpy().tobytes() for name, value in state.export()[0].items()}


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("packs") / "noise.npz"
    return noise_pack(path, [f"class {i}" for i in range(24)], shape=(8, 8, 1))


@pytest.mark.parametrize("method", METHODS)
def test_validation_and_scoring_leave_weights_optimizer_and_generators(method, pack):
    keys = (f"tasks.path={pack}", "tasks.channels=1", "tasks.image_size=8", "tasks.ways=3", "validation.tasks=3")
    experiment = built("folder", *keys, method, splits=("train", "validation", "test"))
    outer = experiment.outer_loop()
    state = new_state(experiment.initial_meta(), outer)
    gradients, validate = training_functions([experiment], training_execution(experiment))
    # One update, so that the optimizer holds something.
    [gradient] = gradients([0], [state.meta_params], 0)
    for name, value in state.params.items():
        value.grad = gradient.gradients[name].clone()
    state.optimizer.step()
    before, of_all, grads = bits(state), generators(), {name: p.grad.clone() for name, p in state.params.items()}
    assert any(name.startswith("optimizer/") for name in before)

    [first] = validate([0], [state.meta_params])
    [scores] = score_each([experiment], [state.meta_params], ScoredTasks("test", 3))

    assert bits(state) == before
    assert generators() == of_all
    assert all(torch.equal(p.grad, grads[name]) for name, p in state.params.items())
    assert not any(p.requires_grad for p in state.params.values())
    # And what it leaves behind has no effect on what is scored next.
    assert validate([0], [state.meta_params]) == [first]
    [again] = score_each([experiment], [state.meta_params], ScoredTasks("test", 3))
    assert again.scores.tobytes() == scores.scores.tobytes()
