"""Seeds trained together equal those trained alone, whatever becomes of their siblings."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mamlcli.common.errors import Interrupted, NonFiniteError
from mamlcli.common.processes.pool import Outcome
from mamlcli.engine.execution import Execution, meta_gradients, trajectories
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.state import new_state
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import RunReport
from mamlcli.studies.sweeps.axes import depth_sweep
from mamlcli.studies.sweeps.cells import can_share, cell_outcomes, group_sizes, run_cells
from mamlcli.studies.sweeps.folder import open_study
from mamlcli.studies.sweeps.run import cell_groups, cell_job, run_sweep
from mamlcli.studies.sweeps.sweep import cells_of
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.planned import PlannedRun, Progress
from mamlcli.training.run import train_runs
from tests.helpers.numerics import meta_gradient
from tests.helpers.numerics import trajectories as trajectories_of_one
from tests.helpers.running import results, train_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Leave out the adaptation curves: they take more time than all else here."""
    monkeypatch.setattr("mamlcli.training.scoring.save_curve", lambda report, path: None)


SMALL = (
    "tasks.shots=6",
    "tasks.queries=5",
    "outer.iterations=8",
    "outer.tasks=3",
    "outer.checkpoint_every=3",
    "outer.lr=0.01",
    "validation.every=3",
    "validation.tasks=4",
    "evaluation.tasks=5",
    "inner.steps=2",
    "evaluation.steps=3",
    "execution.dtype=float64",
    "execution.threads=1",
    "execution.device=cpu",
)

# Only the order of sums differs: a few float64 roundings (1e-16) in each of eight meta-iterations.
TOLERANCE = 1e-10


def small_recipe(name="sinusoid", *overrides):
    _, recipe = load_recipe(name, (*SMALL, *(["model.width=5"] if name == "sinusoid" else []), *overrides))
    return recipe


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


def numbers_of(value):
    """Return all numbers in nested lists and dicts, and the rest of it, in order."""
    if isinstance(value, dict):
        value = [part for key, inner in value.items() for part in (key, inner)]
    if isinstance(value, list):
        pairs = [numbers_of(inner) for inner in value]
        return [n for numbers, _ in pairs for n in numbers], [r for _, rest in pairs for r in rest]
    if isinstance(value, float):
        return [value], []
    return [], [value]


def assert_equal_up_to_rounding(first, second):
    """Require two finished runs to have computed the same."""
    (tensors, metrics, evaluation), (other_tensors, other_metrics, other_evaluation) = (
        results(first),
        results(second),
    )
    assert list(tensors) == list(other_tensors)
    for name, value in tensors.items():
        assert torch.allclose(value, other_tensors[name], rtol=TOLERANCE, atol=1e-13), name
    for one, other in ((metrics, other_metrics), (evaluation, other_evaluation)):
        (numbers, rest), (other_numbers, other_rest) = numbers_of(one), numbers_of(other)
        assert rest == other_rest
        assert numbers == pytest.approx(other_numbers, rel=TOLERANCE, abs=1e-13)


# Meta-gradients and scores ----------------------------------------------------------------------------------------

CASES = {
    "maml": ("sinusoid",),
    "maml, linear": ("linear-regression", "tasks.dimension=4", "model.depth=2"),
    "maml, classes": ("logistic", "tasks.dimension=4"),
    "anil": ("sinusoid", "inner.algorithm=anil"),
    "fomaml": ("sinusoid", "inner.algorithm=fomaml"),
    "a part adapts": ("sinusoid", 'inner.adapt=["body.*.weight"]'),
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


def assert_replicas_agree(case, transform, chunk):
    name, *overrides = CASES[case]
    settings = TRANSFORMS[transform]
    if case == "a part adapts" and transform == "kfo on weights":
        settings = ("inner.transform.name=kfo", 'inner.transform.parameters=["body.0.weight"]')
    experiment = build(small_recipe(name, *overrides, *settings), splits=("train",))
    metas, objective = random_metas(experiment, 5), experiment.objective()
    episode = sample_tasks(experiment.distributions["train"], seed=0, split="train", iteration=0, indices=range(15))
    found = meta_gradients(objective, metas, episode, Execution("explicit", chunk))
    for i, meta in enumerate(metas):
        alone = meta_gradient(objective, meta, episode.tasks(3 * i, 3 * i + 3), Execution("explicit", 3))
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


def test_seeds_of_a_small_model_are_shared_out_evenly_over_the_processes():
    assert group_sizes(8, 1, 2) == [4, 4]
    assert group_sizes(8, 2, 2) == [8]
    assert group_sizes(8, 3, 2) == [4, 4]
    assert group_sizes(3, 1, 2) == [2, 1]
    assert group_sizes(2, 1, 8) == [1, 1]
    assert group_sizes(8, 2, 8) == [2, 2, 2, 2]


def test_only_small_models_on_the_explicit_path_of_the_cpu_share_a_job():
    assert all(can_share(load_recipe(name, ["execution.device=cpu"])[1]) for name in ("sinusoid", "logistic"))
    assert not can_share(load_recipe("sinusoid", ["model.width=400", "execution.device=cpu"])[1])
    assert not can_share(load_recipe("sinusoid", ["execution.path=loop"])[1])
    assert not can_share(load_recipe("glyphs-5way-1shot")[1])


def small_sweep(num_seeds):
    return depth_sweep(
        "linear-regression",
        small_recipe("linear-regression", "tasks.dimension=3"),
        depths=(1, 2),
        num_seeds=num_seeds,
        inner_lrs=(),
    )


def test_a_study_with_shared_jobs_has_the_results_of_one_without(tmp_path):
    sweep = small_sweep(3)
    assert [len(group) for group in cell_groups(cells_of(sweep), 1)] == [3, 3]
    for way in ("together", "alone"):
        open_study(tmp_path / way, sweep, "command")
    started, ends = [], []
    outcome = run_sweep(
        sweep,
        tmp_path / "together",
        num_workers=1,
        argv=["mamlcli"],
        on_start=lambda name, _: started.append(name),
        on_end=ends.append,
    )
    assert not outcome.failures
    assert set(started) == {cell.name for cell in cells_of(sweep)}
    assert [(end.status, end.num_ended) for end in ends] == [("done", number) for number in range(1, 7)]
    for cell in cells_of(sweep):
        run_cells(cell_job(sweep, tmp_path / "alone", [cell], argv=[], num_threads=1).payload, lambda: False)
        assert_equal_up_to_rounding(*(tmp_path / way / "cells" / cell.name for way in ("together", "alone")))
    other = run_sweep(sweep, tmp_path / "alone", num_workers=1, argv=[])
    means = [[cell.final.mean("loss") for cell in found.result.cells] for found in (outcome, other)]
    assert np.allclose(*means, rtol=TOLERANCE, atol=0)


def test_a_shared_job_finishes_what_is_left_of_its_cells_and_tells_which_failed(tmp_path, monkeypatch):
    sweep = small_sweep(3)
    open_study(tmp_path, sweep, "command")
    cells = [cell for cell in cells_of(sweep) if cell.value.value == 1]
    run_cells(cell_job(sweep, tmp_path, cells[:1], argv=[], num_threads=1).payload, lambda: False)
    before = (tmp_path / "cells" / cells[0].name / "evaluation.json").read_text()
    job = cell_job(sweep, tmp_path, cells, argv=[], num_threads=1)
    calls = iter([False] * 3 + [True])
    with pytest.raises(Interrupted):
        run_cells(job.payload, lambda: next(calls))

    def fails_once(runs, **settings):
        if len(runs) == 1:  # tried again alone
            return train_runs(runs, **settings)
        assert len(runs) == 2  # the first is done
        return [NonFiniteError("iteration 3", expected="finite", got="inf"), OSError("disk full")]

    monkeypatch.setattr("mamlcli.studies.sweeps.cells.train_runs", fails_once)
    value = run_cells(job.payload, lambda: False)
    assert value == {cells[1].name: {"reason": "iteration 3: expected finite, got inf.", "error": "NonFiniteError"}}
    assert (tmp_path / "cells" / cells[0].name / "evaluation.json").read_text() == before
    assert (tmp_path / "cells" / cells[2].name / "evaluation.json").is_file()  # tried again alone


def test_the_outcome_of_a_shared_job_is_that_of_each_cell():
    value = {"b": {"reason": "why", "error": "NonFiniteError"}}
    parts = cell_outcomes(Outcome("a", "done", value, wall_s=4.0), ["a", "b"], is_done=lambda _: False)
    assert [(part.key, part.status, part.reason, part.wall_s) for part in parts] == [
        ("a", "done", "", 2.0),
        ("b", "failed", "why", 2.0),
    ]
    died = Outcome("a", "failed", reason="killed", error="died")
    parts = cell_outcomes(died, ["a", "b"], is_done=lambda name: name == "a")
    assert [(part.key, part.status, part.error) for part in parts] == [("a", "done", ""), ("b", "failed", "died")]
