"""Seeds trained together equal those trained alone, whatever becomes of their siblings."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch

from mamlcli.common.errors import Interrupted, NonFiniteError
from mamlcli.engine.execution import Execution, meta_gradients, trajectories
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.state import new_state
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import RunReport
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.planned import PlannedRun, Progress
from mamlcli.training.run import train_runs
from tests.helpers.numerics import meta_gradient
from tests.helpers.numerics import trajectories as trajectories_of_one
from tests.helpers.running import results, train_run
from tests.helpers.together import TOLERANCE, assert_equal_up_to_rounding, small_recipe

pytestmark = pytest.mark.usefixtures("one_thread")


def replicas_in(folder, recipe, seeds=(0, 1, 2), progress=None):
    """Return replicas with their run directories, made or opened."""
    experiment = build(recipe, splits=splits_of_training(recipe))
    found = []
    for seed in seeds:
        own, path = recipe.model_copy(update={"seed": seed}), folder / str(seed)
        run = RunDirectory.open(path) if path.exists() else RunDirectory.create(path, own, "small")
        found.append(PlannedRun(run, replace(experiment, recipe=own), ["mamlcli"], progress or Progress()))
    return found


def train_alone(folder, recipe, seeds=(0, 1, 2)):
    ends = []
    for replica in replicas_in(folder, recipe, seeds):
        try:
            ends.append(train_run(replica.directory, replica.experiment, argv=replica.argv))
        except NonFiniteError as error:
            ends.append(error)
    return ends


# Meta-gradients and scores ----------------------------------------------------------------------------------------

CASES = {
    "maml": ("sinusoid",),
    "maml, linear": ("linear-regression", "tasks.dimension=4", "model.depth=2"),
    "maml, classes": ("logistic", "tasks.dimension=4"),
    "anil": ("sinusoid", "inner.algorithm=anil"),
    "fomaml": ("sinusoid", "inner.algorithm=fomaml"),
    "a part adapts": ("sinusoid", 'inner.adapt=["body.*.weight"]'),
    "boil": ("sinusoid", "inner.algorithm=boil"),
    "zero head": ("sinusoid", "inner.head=zero"),
    "shared head": ("logistic", "tasks.dimension=4", "model.linear_layers=1", "inner.head=shared"),
    "constant memory": ("sinusoid", "inner.memory=constant"),
}


def random_metas(experiment, number):
    """Return meta-parameters that have left the start, where a transform is the identity."""
    generator = torch.Generator().manual_seed(0)
    flats = [
        {
            name: value + 0.1 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
            for name, value in experiment.initial_meta().flat().items()
        }
        for _ in range(number)
    ]
    return [MetaParams.from_flat(flat) for flat in flats]


TRANSFORMS = {
    "identity": (),
    "kfo": ("inner.transform=kfo",),
    "meta-sgd": ("inner.transform=meta-sgd",),
    "kfo, adapted": ("inner.transform.name=kfo", "inner.transform.adapted=true"),
    "rates of tensors": ("inner.rates=tensor",),
    "rates of steps": ("inner.rates=step", "inner.transform=meta-sgd"),
    "rates of both": ("inner.rates=tensor-step", "inner.transform=kfo"),
    "kfo on weights": ("inner.transform.name=kfo", 'inner.transform.parameters=["head.*.weight"]'),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("case", CASES)
def test_meta_gradients_of_replicas_are_those_of_each(case, transform):
    # Of five replicas of three tasks, two fit into a chunk.
    assert_replicas_agree(case, transform, chunk=7)


@pytest.mark.parametrize("chunk", [1, 3, 15, 100])
def test_chunks_of_less_than_a_replica_and_of_all_of_them_give_the_same(chunk):
    assert_replicas_agree("maml", "kfo", chunk)


@pytest.mark.parametrize("transform", ["identity", "rates of both"])
@pytest.mark.parametrize("case", ["maml", "fomaml", "anil", "constant memory"])
def test_losses_of_all_steps_of_replicas_are_those_of_each(case, transform):
    assert_replicas_agree(case, transform, 7, step_weights=(0.3, 0.7))


def assert_replicas_agree(case, transform, chunk, step_weights=None):
    name, *overrides = CASES[case]
    settings = TRANSFORMS[transform]
    if case in ("a part adapts", "boil") and transform == "kfo on weights":
        settings = ("inner.transform.name=kfo", 'inner.transform.parameters=["body.0.weight"]')
    experiment = build(small_recipe(name, *overrides, *settings), splits=("train",))
    metas, objective = random_metas(experiment, 5), experiment.objective()
    episode = sample_tasks(experiment.distributions["train"], seed=0, split="train", iteration=0, indices=range(15))
    found = meta_gradients(objective, metas, episode, Execution("explicit", chunk), step_weights=step_weights)
    for i, meta in enumerate(metas):
        own_tasks = episode.tasks(3 * i, 3 * i + 3)
        alone = meta_gradient(objective, meta, own_tasks, Execution("explicit", 3), step_weights)
        assert torch.allclose(found[i].outer_loss, alone.outer_loss, rtol=TOLERANCE, atol=0)
        assert torch.allclose(found[i].accuracy, alone.accuracy, equal_nan=True)
        for key, value in alone.gradients.items():
            assert torch.allclose(found[i].gradients[key], value, rtol=TOLERANCE, atol=1e-13), key
    for own, meta in zip(trajectories(objective, metas, episode, Execution("explicit", chunk)), metas, strict=True):
        alone = trajectories_of_one(objective, meta, episode, Execution("explicit", 3))
        assert torch.allclose(own, alone, rtol=TOLERANCE, atol=1e-13, equal_nan=True)


def test_replicas_on_another_path_than_explicit_are_run_one_by_one():
    experiment = build(small_recipe(), splits=("train",))
    metas, objective = random_metas(experiment, 2), experiment.objective()
    episode = sample_tasks(experiment.distributions["train"], seed=0, split="train", iteration=0, indices=range(6))
    found = meta_gradients(objective, metas, episode, Execution("loop", 1))[1]
    alone = meta_gradient(objective, metas[1], episode.tasks(3, 6), Execution("loop", 1))
    assert all(torch.equal(found.gradients[name], value) for name, value in alone.gradients.items())


# Runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("inner.transform=kfo", "inner.algorithm=anil"),
        ("inner.transform=meta-sgd", "inner.algorithm=fomaml"),
        ("outer.optimizer=sgd", "outer.schedule=cosine", "outer.clip_norm=0.5"),
        ("validation.every=null",),
        ("inner.rates=tensor-step", "outer.multi_step_loss=5"),
        ("outer.schedule=cosine", "outer.lr_min=1e-3", "outer.weight_decay=0.1"),
    ],
    ids=" ".join,
)
def test_runs_trained_together_equal_those_trained_alone(overrides, tmp_path):
    recipe = small_recipe("sinusoid", *overrides)
    ends = train_runs(replicas_in(tmp_path / "together", recipe))
    train_alone(tmp_path / "alone", recipe)
    assert all(isinstance(end, RunReport) for end in ends)
    for seed in "012":
        assert_equal_up_to_rounding(tmp_path / "together" / seed, tmp_path / "alone" / seed)


def test_each_replica_is_a_run_of_its_own_and_says_how_it_was_computed(tmp_path):
    recipe = small_recipe("logistic", "tasks.dimension=4")
    for replica in replicas_in(tmp_path, recipe):
        assert replica.directory.manifest["status"] == "created"
    train_runs(replicas_in(tmp_path, recipe))
    for seed in (0, 1, 2):
        run = RunDirectory.open(tmp_path / str(seed))
        assert run.recipe.seed == run.manifest["seed"] == seed
        assert run.manifest["status"] == "done"
        assert run.manifest["execution"]["replicas"] == 3
        # Three tasks of each of three replicas fit into a chunk.
        assert (run.manifest["execution"]["path"], run.manifest["execution"]["chunk"]) == ("explicit", 9)
        assert json.loads((run.path / "evaluation.json").read_text())["run"] == str(run.path)


def test_a_replica_that_stops_early_leaves_the_others_as_they_are(tmp_path):
    # Validated after every iteration at so high an outer rate, seeds stop at different times.
    recipe = small_recipe("sinusoid", "validation.every=1", "validation.patience=2", "outer.lr=0.3")
    train_runs(replicas_in(tmp_path / "together", recipe))
    train_alone(tmp_path / "alone", recipe)
    done = [RunDirectory.open(tmp_path / "alone" / seed).manifest["iterations_done"] for seed in "012"]
    assert len(set(done)) > 1
    for seed in "012":
        assert_equal_up_to_rounding(tmp_path / "together" / seed, tmp_path / "alone" / seed)
        manifests = [RunDirectory.open(tmp_path / way / seed).manifest for way in ("together", "alone")]
        assert manifests[0]["status"] == manifests[1]["status"]


def test_a_replica_that_diverges_fails_as_it_does_alone_and_the_others_go_on(tmp_path):
    recipe = small_recipe("sinusoid", "validation.every=null")
    members, states = replicas_in(tmp_path / "together", recipe), {}

    def remember(meta, outer):
        states[outer.seed] = new_state(meta, outer)
        return states[outer.seed]

    def poison(record):
        # The meta-parameters of one replica are broken after its second step.
        if record.iteration == 2:
            states[1].params["model/head.0.bias"].fill_(float("inf"))

    members[1] = replace(members[1], progress=Progress(on_record=poison))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mamlcli.training.ongoing.new_state", remember)
        ends = train_runs(members)
    assert isinstance(ends[1], NonFiniteError)
    assert "iteration 3" in str(ends[1])
    assert "seed 1, split train, iteration 2" in str(ends[1])
    assert members[1].directory.manifest["status"] == "failed"
    train_alone(tmp_path / "alone", recipe, seeds=(0, 2))
    for seed in "02":
        assert_equal_up_to_rounding(tmp_path / "together" / seed, tmp_path / "alone" / seed)


def test_an_interruption_saves_all_and_they_go_on_to_the_same_bits(tmp_path):
    recipe = small_recipe()
    train_runs(replicas_in(tmp_path / "whole", recipe))
    answers = iter([False] * 4 + [True])
    ends = train_runs(replicas_in(tmp_path / "cut", recipe), is_stopped=lambda: next(answers))
    assert all(isinstance(end, Interrupted) for end in ends)
    runs = [RunDirectory.open(tmp_path / "cut" / seed) for seed in "012"]
    assert [run.manifest["status"] for run in runs] == ["interrupted"] * 3
    assert all(0 < run.manifest["iterations_done"] < 8 for run in runs)
    train_runs(replicas_in(tmp_path / "cut", recipe))
    for seed in "012":
        (tensors, metrics, _), (others, other_metrics, _) = (results(tmp_path / way / seed) for way in ("cut", "whole"))
        assert metrics == other_metrics
        assert all(torch.equal(value, others[name]) for name, value in tensors.items())


def test_a_signal_while_runs_are_started_leaves_none_of_them_running(tmp_path):
    told = Progress(on_start=lambda experiment, directory, iteration: os.kill(os.getpid(), signal.SIGTERM))
    members = replicas_in(tmp_path, small_recipe())
    ends = train_runs([replace(members[0], progress=told), *members[1:]])
    assert all(isinstance(end, Interrupted) for end in ends)
    manifests = [RunDirectory.open(tmp_path / seed).manifest for seed in "012"]
    assert [manifest["status"] for manifest in manifests] == ["interrupted"] * 3


def test_a_replica_that_is_behind_its_siblings_catches_up(tmp_path):
    recipe = small_recipe()
    train_alone(tmp_path / "alone", recipe)

    def stop(record):
        if record.iteration == 5:
            raise Interrupted("interrupted")

    ahead = replicas_in(tmp_path / "together", recipe, seeds=(1,), progress=Progress(on_record=stop))
    with pytest.raises(Interrupted):
        train_run(ahead[0].directory, ahead[0].experiment, argv=[], progress=ahead[0].progress)
    ends = train_runs(replicas_in(tmp_path / "together", recipe))
    assert all(isinstance(end, RunReport) for end in ends)
    assert RunDirectory.open(tmp_path / "together" / "1").manifest["resumed_from"] == [5]
    for seed in "012":
        assert_equal_up_to_rounding(tmp_path / "together" / seed, tmp_path / "alone" / seed)


def test_a_replica_can_be_finished_alone(tmp_path):
    recipe = small_recipe()
    train_alone(tmp_path / "alone", recipe, seeds=(1,))
    answers = iter([False] * 4 + [True])
    train_runs(replicas_in(tmp_path / "cut", recipe), is_stopped=lambda: next(answers))
    train_alone(tmp_path / "cut", recipe, seeds=(1,))
    assert RunDirectory.open(tmp_path / "cut" / "1").manifest["execution"]["replicas"] == 1
    assert_equal_up_to_rounding(tmp_path / "cut" / "1", tmp_path / "alone" / "1")


# Studies ----------------------------------------------------------------------------------------------------------
