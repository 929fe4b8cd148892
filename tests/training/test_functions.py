"""What the outer loop needs of an experiment: which splits, how tasks are run, and the two functions."""

from __future__ import annotations

import pytest
import torch

from mamlcli.engine.execution import Execution, meta_gradients
from mamlcli.engine.explicit.network import TaskNetwork
from mamlcli.engine.sharing import ALONE, WorkerGroup, share_of
from mamlcli.recipe.files import load_recipe
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.training.functions import splits_of_training, training_execution, training_functions
from mamlcli.training.scoring import ScoredTasks, score
from tests.helpers.running import built, noise_pack

pytestmark = pytest.mark.usefixtures("one_thread")


class ShareOf(WorkerGroup):
    """One of some workers, which keeps what it computes to itself."""

    def __init__(self, rank, num_workers):
        super().__init__()
        self.of = (rank, num_workers)

    def share(self, num_tasks):
        return share_of(num_tasks, *self.of)


def test_splits_that_a_training_uses_are_those_of_its_parts():
    def splits(*overrides):
        return splits_of_training(load_recipe("logistic", overrides)[1])

    assert splits() == ("train", "validation", "test")
    assert splits("validation.every=null") == ("train", "test")
    assert splits("validation.every=null", "evaluation.split=train") == ("train",)
    assert splits("evaluation.split=validation") == ("train", "validation")


def test_classes_held_back_are_those_of_meta_validation():
    def splits(*overrides):
        return splits_of_training(load_recipe("glyphs-5way-1shot", ("tasks.held_back=20", *overrides))[1])

    assert splits() == ("train", "held-back", "test")
    assert splits("validation.every=null") == ("train", "test")
    assert splits("validation.every=null", "evaluation.split=held-back") == ("train", "held-back")
    assert splits("evaluation.split=validation") == ("train", "held-back", "validation")


def test_execution_of_training_is_for_a_workers_share_or_for_all_runs_together():
    experiment = built("sinusoid", "outer.tasks=6")
    assert training_execution(experiment) == Execution("explicit", 6)
    assert training_execution(experiment, num_workers=2) == Execution("explicit", 3)
    assert training_execution(experiment, num_runs=3) == Execution("explicit", 18)


def test_meta_gradients_are_those_of_each_runs_own_tasks_at_the_iteration():
    first, second = (built("sinusoid", f"seed={seed}", "execution.dtype=float64") for seed in (0, 1))
    meta, how = first.initial_meta(), Execution("loop", 1)
    gradients, _ = training_functions([first, second], how)
    both = gradients([0, 1], [meta, meta], 5)
    for experiment, gradient in zip((first, second), both, strict=True):
        where = {"seed": experiment.recipe.seed, "split": "train", "iteration": 5, "indices": range(2)}
        episode = sample_tasks(experiment.distributions["train"], **where)
        [alone] = meta_gradients(experiment.objective(), [meta], episode, how)
        assert torch.equal(gradient.outer_loss, alone.outer_loss)
    assert not torch.equal(both[0].outer_loss, both[1].outer_loss)


def test_multi_step_loss_weighs_the_steps_until_its_last_iteration():
    keys = ("inner.steps=2", "outer.multi_step_loss=10", "execution.dtype=float64", "model.width=4")
    experiment = built("sinusoid", *keys)
    meta, how = experiment.initial_meta(), Execution("explicit", 2)
    gradients, _ = training_functions([experiment], how)
    for iteration, weights in ((0, (0.5, 0.5)), (5, (0.25, 0.75)), (10, None), (11, None)):
        where = {"seed": 0, "split": "train", "iteration": iteration, "indices": range(2)}
        episode = sample_tasks(experiment.distributions["train"], **where)
        [expected] = meta_gradients(experiment.objective(), [meta], episode, how, step_weights=weights)
        [found] = gradients([0], [meta], iteration)
        assert torch.equal(found.outer_loss, expected.outer_loss)
        assert all(torch.equal(found.gradients[name], value) for name, value in expected.gradients.items())


def test_after_the_multi_step_loss_the_query_set_passes_once(monkeypatch):
    passes = []

    def counted(network, flat, x, forward=TaskNetwork.features):
        passes.append(len(x))
        return forward(network, flat, x)

    monkeypatch.setattr(TaskNetwork, "features", counted)
    experiment = built("sinusoid", "inner.steps=3", "outer.multi_step_loss=4", "model.width=4")
    gradients, _ = training_functions([experiment], Execution("explicit", 2))
    for iteration, num_passes in ((3, 3), (4, 1)):
        passes.clear()
        gradients([0], [experiment.initial_meta()], iteration)
        assert len(passes) == num_passes


def test_augmented_tasks_are_the_same_alone_among_runs_and_in_any_share(tmp_path):
    path = noise_pack(tmp_path / "p.npz", [f"class{index}" for index in range(9)])
    keys = (f"tasks.path={path}", "tasks.ways=2", "tasks.shots=1", "execution.dtype=float64", "outer.tasks=3")

    def losses(experiments, meta, group=ALONE):
        gradients, _ = training_functions(experiments, Execution("loop", 1), group)
        return [gradient.outer_loss for gradient in gradients(range(len(experiments)), [meta] * len(experiments), 4)]

    plain = built("folder", *keys)
    meta = plain.initial_meta()
    runs = [built("folder", *keys, f"seed={seed}", "tasks.augment=[crop, flip, colour]") for seed in (0, 1)]
    together = losses(runs, meta)
    for run, of_run in zip(runs, together, strict=True):
        [alone] = losses([run], meta)
        assert torch.equal(alone, of_run)
        shares = [losses([run], meta, ShareOf(rank, 2))[0] for rank in range(2)]
        assert torch.equal(torch.cat(shares), alone)
    assert not torch.equal(losses([plain], meta)[0], together[0])


def test_validation_is_of_the_same_tasks_each_time_and_not_of_those_that_are_scored():
    experiment = built("logistic", "validation={every: 1, tasks: 5}", splits=("train", "validation"))
    meta = experiment.initial_meta()
    _, validate = training_functions([experiment], Execution("loop", 1))
    [(loss, accuracy)] = validate([0], [meta])
    assert validate([0, 0], [meta, meta]) == [(loss, accuracy)] * 2
    [scored] = score(experiment, [meta], ScoredTasks("validation", 5))
    assert loss != scored.estimate("query_loss", -1).mean
