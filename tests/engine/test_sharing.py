"""Workers that are joined: real processes compute what one computes, to the order of sums."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mamlcli.common.errors import DeviceError, WorkerError
from mamlcli.common.processes.launch import Ending, end_with_parent, run_workers
from mamlcli.common.processes.place import Place, place_in
from mamlcli.engine.execution import MetaGradient
from mamlcli.engine.sharing import ALONE, WorkerGroup, joined, share_of
from mamlcli.recipe.files import load_recipe
from mamlcli.training.experiment import build
from mamlcli.training.functions import training_execution, training_functions
from mamlcli.training.scoring import ScoredTasks, score
from tests.helpers.numerics import relative_error

# Five tasks: two workers have three and two, three have two, two and one.
NUM_TASKS = 5
OVERRIDES = (
    "execution.dtype=float64",
    "execution.device=cpu",
    f"outer.tasks={NUM_TASKS}",
    "tasks.shots=4",
    "tasks.queries=3",
    "validation.tasks=7",
    "validation.every=1",
    "inner.steps=2",
)
# The iteration that is computed has losses of both steps.
RECIPES = {"logistic": ("inner.rates=tensor-step", "outer.multi_step_loss=10"), "sinusoid": ()}

# Sums of five terms in another order, in float64, through two inner steps.
SAME_SUMS = 1e-12


def experiment_of(recipe):
    return build(load_recipe(recipe, OVERRIDES + RECIPES[recipe])[1], splits=("train", "validation", "test"))


def computed(group):
    """Return all that workers compute together: the meta-gradient, a validation, scores of few tasks."""
    found = {}
    for recipe in RECIPES:
        experiment = experiment_of(recipe)
        meta = experiment.initial_meta()
        how = replace(training_execution(experiment, group.num_workers), chunk=1)
        gradients, validate = training_functions([experiment], how, group)
        [result] = gradients([0], [meta], 3)
        found[f"{recipe}/gradients"] = result.gradients
        found[f"{recipe}/seen"] = torch.stack([result.outer_loss, result.accuracy.double()])
        found[f"{recipe}/validation"] = [value for value in validate([0], [meta])[0] if value is not None]
        # Two tasks: the third worker has none.
        [few] = score(experiment, [meta], ScoredTasks("test", 2), group)
        found[f"{recipe}/scores"] = torch.from_numpy(few.scores)
        found[f"{recipe}/references"] = {
            name: torch.from_numpy(reference.loss) for name, reference in few.references.items()
        }
    return found


def in_order_of_tasks(group):
    """Return losses and accuracies that say which task they are of, after an exchange; task 4 has overflowed."""
    indices = torch.tensor(list(group.share(NUM_TASKS)), dtype=torch.float64)
    losses = torch.where(indices == 4, torch.inf, indices)
    found = MetaGradient({"w": torch.ones(2, dtype=torch.float64)}, losses, torch.full_like(indices, torch.nan))
    return group.all_reduce(found, NUM_TASKS)


def work(folder: str) -> None:
    """Be one of three workers: two of them are joined first, then all; then the last one dies."""
    torch.set_num_threads(1)
    end_with_parent(os.environ)
    place = place_in(os.environ)
    assert place is not None
    if place.rank < 2:
        two = replace(place, num_workers=2, rendezvous=f"{folder}/two")
        with joined(two) as group:
            torch.save(computed(group), f"{folder}/2-{place.rank}")
    with joined(place) as group:
        is_stopping = group.agree(lambda: place.rank == 1)
        told = group.broadcast({"from": place.rank})
        seen = in_order_of_tasks(group)
        has_stopped = is_stopping()
        group.agree(bool)  # from here on nobody was asked to stop
        kept = {
            **computed(group),
            "stopping": has_stopped,
            "told": told,
            "order": [seen.gradients["w"], seen.outer_loss, seen.accuracy],
            "gathered": group.gather(place.rank),
        }
        torch.save(kept, f"{folder}/3-{place.rank}")
        if place.rank == 2:
            os._exit(0)
        try:
            in_order_of_tasks(group)
        except WorkerError as error:
            Path(f"{folder}/lost-{place.rank}").write_text(str(error))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three processes' work, in files."""
    found = tmp_path_factory.mktemp("workers")
    root = str(Path(__file__).parents[2])
    code = f"import sys; sys.path.insert(0, {root!r}); from tests.engine.test_sharing import work; work({str(found)!r})"
    assert run_workers(3, [sys.executable, "-c", code]) == Ending(0)
    return found


@pytest.fixture(scope="module")
def alone():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = computed(ALONE)
    torch.set_num_threads(before)
    return found


def of_worker(folder, num_workers, rank):
    return torch.load(folder / f"{num_workers}-{rank}", weights_only=False)


@pytest.mark.parametrize("num_workers", [2, 3])
@pytest.mark.parametrize("recipe", RECIPES)
def test_workers_compute_the_meta_gradient_of_one(folder, alone, num_workers, recipe):
    found = of_worker(folder, num_workers, 0)
    assert relative_error(found[f"{recipe}/gradients"], alone[f"{recipe}/gradients"]) < SAME_SUMS
    for key in (f"{recipe}/seen", f"{recipe}/scores"):
        assert torch.allclose(found[key], alone[key], rtol=SAME_SUMS, atol=SAME_SUMS, equal_nan=True)
    assert found[f"{recipe}/validation"] == pytest.approx(alone[f"{recipe}/validation"], rel=SAME_SUMS)
    for name, value in alone[f"{recipe}/references"].items():
        assert torch.allclose(found[f"{recipe}/references"][name], value, rtol=SAME_SUMS)


@pytest.mark.parametrize("num_workers", [2, 3])
def test_all_workers_have_the_same_bits(folder, num_workers):
    first, *others = [of_worker(folder, num_workers, rank) for rank in range(num_workers)]
    for other in others:
        for recipe in RECIPES:
            for name, value in first[f"{recipe}/gradients"].items():
                assert value.numpy().tobytes() == other[f"{recipe}/gradients"][name].numpy().tobytes()
            assert first[f"{recipe}/validation"] == other[f"{recipe}/validation"]


def test_losses_come_in_the_order_of_the_tasks_and_an_overflow_stays_with_its_own(folder):
    gradient, losses, accuracy = of_worker(folder, 3, 0)["order"]
    assert losses.tolist() == [0, 1, 2, 3, float("inf")]
    assert accuracy.isnan().all()
    # Shares of 2, 2 and 1 tasks, each with a mean gradient of 1: 2/5 + 2/5 + 1/5.
    assert gradient.tolist() == pytest.approx([1.0, 1.0], rel=SAME_SUMS)


def test_one_worker_that_is_asked_to_stop_stops_all(folder):
    assert all(of_worker(folder, 3, rank)["stopping"] for rank in range(3))


def test_values_of_worker_0_reach_all_and_those_of_all_are_in_order(folder):
    for rank in range(3):
        found = of_worker(folder, 3, rank)
        assert found["told"] == {"from": 0}
        assert found["gathered"] == [0, 1, 2]


def test_death_of_a_worker_is_an_error_in_the_others(folder):
    for rank in range(2):
        text = (folder / f"lost-{rank}").read_text()
        assert text.startswith("workers: expected an answer of all 3, got ")
        assert ".cc" not in text


# Without processes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("num_tasks", [0, 1, 7, 10])
def test_shares_are_consecutive_and_differ_by_one_at_most(num_tasks, num_workers):
    shares = [share_of(num_tasks, rank, num_workers) for rank in range(num_workers)]
    assert [index for share in shares for index in share] == list(range(num_tasks))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == sizes[0]


def test_more_workers_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    group = WorkerGroup(Place(0, 3, 0, 3))
    with pytest.raises(DeviceError, match="--workers: expected at most 2 on this machine"):
        group.use_device(torch.device("cuda"))


def test_workers_of_the_cpu_have_one_thread_each():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        ALONE.use_device(torch.device("cpu"))
        assert torch.get_num_threads() == 2
        WorkerGroup(Place(0, 2, 0, 2)).use_device(torch.device("cpu"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        (
            "[enforce fail at /x/device.cc:84] ifa != nullptr. Unable to find address for: eth9",
            "find address for: eth9",
        ),
        ("[enforce fail at /x/device.cc:215] ifa != nullptr. Unable to find interface for: [127.0.0.1]", "127.0.0.1"),
        ("makeDeviceForHostname(): unable to resolve hostname to a (local) address", "unable to resolve hostname"),
    ],
)
def test_workers_without_a_network_are_told_which_variable_to_set(monkeypatch, text, got):
    def fail(*args, **options):
        raise RuntimeError(text)

    monkeypatch.setattr(torch.distributed, "init_process_group", fail)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth9")
    with pytest.raises(WorkerError) as caught, joined(Place(0, 2, 0, 2, "/nowhere/rendezvous")):
        pass
    said = str(caught.value)
    assert said.startswith("worker 0: expected to meet all 2 workers, got ")
    assert got in said
    assert "GLOO_SOCKET_IFNAME is eth9. Set GLOO_SOCKET_IFNAME to one that is up: lo" in said
    assert "enforce" not in said
