"""Meta-gradients that are replayed: recorded once for each set of shapes, checked, and computed where that fails.

There is no GPU here: `Recorded` of `tests.helpers.graphs` stands for one.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from mamlcli.common.errors import MamlError
from mamlcli.engine import graphs as module
from mamlcli.engine.execution import Execution, meta_gradients
from mamlcli.engine.graphs import CudaRecorder, Graphs
from mamlcli.engine.multi_step import step_weights
from mamlcli.engine.networks import cnn
from mamlcli.engine.objective import MetaParams
from mamlcli.tasks.episodes import Episode
from tests.helpers.graphs import Recorded
from tests.helpers.numerics import perturbed
from tests.helpers.problems import EVERY_TRANSFORM, NETWORKS, NUM_TASKS, WAYS, problem

EXPLICIT = Execution("explicit", 3, graphs=True)  # three does not divide five: chunks have two sizes


FIRST_TIME = ["warm up", "warm up", "record", "replay"]


def moved(episode, by):
    """Return other tasks of the same shapes."""
    of = perturbed({"support_x": episode.support_x, "query_x": episode.query_x}, scale=0.3, key=f"tasks {by}")
    return Episode(of["support_x"], episode.support_y, of["query_x"], episode.query_y.roll(by, 1), truth={})


def of_iteration(case, by):
    """Return a case at other meta-parameters, with other tasks."""
    objective, meta, episode = case
    other = MetaParams.from_flat(perturbed(meta.flat(), scale=0.1, key=f"meta {by}"))
    return objective, other, moved(episode, by)


def assert_same(found, expected):
    for name, value in expected.gradients.items():
        assert torch.equal(found.gradients[name], value), name
    assert torch.equal(found.outer_loss, expected.outer_loss)
    assert torch.equal(found.accuracy.nan_to_num(-1), expected.accuracy.nan_to_num(-1))


def replayed(case, graphs, execution=EXPLICIT, weights=None):
    objective, meta, episode = case
    [found] = meta_gradients(objective, [meta], episode, execution, step_weights=weights, graphs=graphs)
    return found


def computed(case, execution=EXPLICIT, weights=None):
    return replayed(case, None, execution, weights)


@pytest.mark.parametrize(
    ("algorithm", "transform"),
    [
        ("maml", "none"),
        ("fomaml", "kfo-mlp"),
        ("anil", "meta-curvature"),
        ("boil", "rates-of-both"),
        ("maml", "rates-of-steps"),
    ],
)
def test_replayed_meta_gradients_have_the_bits_of_computed_ones(algorithm, transform):
    network = cnn((1, 5, 5), WAYS, depth=1, width=3)
    case, graphs = problem(network, algorithm, EVERY_TRANSFORM[transform]), Graphs(Recorded())
    for iteration in range(3):
        at = of_iteration(case, iteration)
        assert_same(replayed(at, graphs), computed(at))
    assert graphs.reason is None
    # Two sizes of chunks are recorded, each once; each is replayed at every iteration.
    assert graphs.recorder.calls == [*FIRST_TIME, *FIRST_TIME, *["replay"] * 4]


@pytest.mark.parametrize("name", ["cnn-pool", "mlp-tanh"])
def test_networks_are_replayed_with_constant_memory_and_adapted_transforms_too(name):
    for settings in ({"recompute": True}, {"transform": EVERY_TRANSFORM["kfo"], "adapt_transform": True}):
        case, graphs = problem(NETWORKS[name](), **settings), Graphs(Recorded())
        for iteration in range(2):
            at = of_iteration(case, iteration)
            assert_same(replayed(at, graphs), computed(at))
        assert graphs.recorder.calls.count("replay") == 4


def test_weights_of_the_steps_that_change_are_replayed():
    case, graphs = problem(NETWORKS["mlp"]()), Graphs(Recorded())
    for iteration in range(5):
        weights = step_weights(iteration, num_iterations=4, num_inner_steps=2)
        assert_same(replayed(case, graphs, weights=weights), computed(case, weights=weights))
    # With weights, and then without.
    assert graphs.recorder.calls.count("record") == 4


def test_runs_trained_together_are_replayed():
    objective, meta, episode = problem(NETWORKS["cnn-stride"]())
    metas = [meta, MetaParams.from_flat(perturbed(meta.flat(), scale=0.1))]
    both = Episode(*(torch.cat([part, part.roll(1, 0)]) for part in episode.data()), truth={})
    how, graphs = Execution("explicit", 2 * NUM_TASKS, graphs=True), Graphs(Recorded())
    expected = meta_gradients(objective, metas, both, how)
    for _ in range(2):
        for found, of_run in zip(meta_gradients(objective, metas, both, how, graphs=graphs), expected, strict=True):
            assert_same(found, of_run)
    assert graphs.recorder.calls == [*FIRST_TIME, "replay"]


def test_results_are_the_callers_own_and_its_tensors_are_left():
    case, graphs = problem(NETWORKS["mlp"]()), Graphs(Recorded())
    first = replayed(case, graphs)
    kept = {name: value.clone() for name, value in first.gradients.items()}
    before = [value.clone() for value in (*case[1].flat().values(), *case[2].data())]
    replayed(of_iteration(case, 1), graphs)
    assert all(torch.equal(first.gradients[name], value) for name, value in kept.items())
    assert all(
        torch.equal(value, old) for value, old in zip((*case[1].flat().values(), *case[2].data()), before, strict=True)
    )


# Invalidation -----------------------------------------------------------------------------------------------------


def test_other_shapes_and_number_types_are_recorded_anew_and_few_recordings_are_kept():
    objective, meta, episode = problem(NETWORKS["mlp"]())
    graphs, all_at_once = Graphs(Recorded()), Execution("explicit", NUM_TASKS, graphs=True)

    def calls(num_tasks, dtype=torch.float64):
        graphs.recorder.calls.clear()
        of_type = MetaParams.from_flat({name: value.to(dtype) for name, value in meta.flat().items()})
        parts = [part.to(dtype) if part.is_floating_point() else part for part in episode.tasks(0, num_tasks).data()]
        at = objective, of_type, Episode(*parts, truth={})
        assert_same(replayed(at, graphs, all_at_once), computed(at, all_at_once))
        return graphs.recorder.calls

    assert calls(5) == FIRST_TIME
    assert calls(3) == FIRST_TIME
    assert calls(5) == ["replay"]
    assert calls(5, torch.float32) == FIRST_TIME
    assert calls(2) == FIRST_TIME
    # The fifth takes the place of the one that was used longest ago: three tasks.
    assert calls(1) == FIRST_TIME
    assert calls(5) == ["replay"]
    assert calls(3) == FIRST_TIME


def test_inner_loop_with_other_numbers_is_recorded_anew():
    objective, meta, episode = problem(NETWORKS["mlp"]())
    graphs = Graphs(Recorded())
    faster = replace(objective, inner=replace(objective.inner, lr=0.5))
    for at in ((objective, meta, episode), (faster, meta, episode)):
        assert_same(replayed(at, graphs), computed(at))


# Where a recording cannot be had ----------------------------------------------------------------------------------


def numbers(value):
    return [torch.full((3,), value, dtype=torch.float64), torch.full((3,), 2.0, dtype=torch.float64)]


def test_recording_that_does_not_see_its_inputs_is_found_and_not_used():
    notes, recorder = [], Recorded()
    graphs = Graphs(recorder, on_note=notes.append)
    constant = numbers(1.0)[0]

    def work(inputs):
        # Torch calls it twice with inputs of zeros before the recording, as a cache might be filled then.
        return [inputs[0] * inputs[1]] if recorder.calls in ([], ["replay"]) else [constant * inputs[1]]

    [found] = graphs(work, numbers(5.0), "key")
    assert found.tolist() == [10.0] * 3
    assert graphs.reason == "the replayed meta-gradient differs from the computed one by 8.0e-01 of its largest entry"
    assert notes == [f"execution.cuda_graphs: off, {graphs.reason}; results are the same without"]
    recorder.calls.clear()
    assert graphs(lambda inputs: [inputs[0]], numbers(7.0), "other")[0].tolist() == [7.0] * 3
    assert recorder.calls == []  # nothing is tried again, and nothing more said
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore"), "operation not permitted"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
    ],
)
def test_recording_that_fails_is_done_without_unless_it_is_required(error, said):
    case, notes = problem(NETWORKS["mlp"]()), []
    graphs = Graphs(Recorded(error=error), on_note=notes.append)
    for iteration in range(2):
        at = of_iteration(case, iteration)
        assert_same(replayed(at, graphs), computed(at))
    assert len(notes) == 1
    assert said in notes[0]
    assert "\n" not in notes[0]
    with pytest.raises(MamlError, match=rf"execution.cuda_graphs: expected .* got .*{said}.*cuda_graphs=auto"):
        replayed(case, Graphs(Recorded(error=error), is_required=True))


def test_number_that_is_none_is_the_same_in_both_and_a_missing_one_is_not():
    nan = torch.tensor([1.0, float("nan"), float("inf")])
    graphs = Graphs(Recorded())
    graphs(lambda inputs: [inputs[0] * nan, None], [torch.ones(3)], "key")
    assert graphs.reason is None
    graphs = Graphs(recorder := Recorded())
    graphs(lambda inputs: [inputs[0], None if recorder.calls else inputs[0]], [torch.ones(3)], "key")
    assert graphs.reason == "the recording gives other outputs"
    graphs = Graphs(recorder := Recorded())
    graphs(lambda inputs: [inputs[0] / (0.0 if recorder.calls else 1.0)], [torch.ones(3)], "key")
    assert graphs.reason is not None


def test_an_error_of_the_work_itself_is_the_callers():
    def work(inputs):
        raise RuntimeError("no such shape")

    with pytest.raises(RuntimeError, match="no such shape"):
        Graphs(Recorded())(work, [torch.ones(2)], "key")


# What is asked of torch -------------------------------------------------------------------------------------------


class Cuda:
    """Stands for torch.cuda, and says what was called and on which stream."""

    def __init__(self):
        self.calls, self.stream_now = [], "main"

    def current_stream(self):
        return Stream(self, self.stream_now)

    @contextmanager
    def device(self, device):
        yield

    @contextmanager
    def stream(self, stream):
        before, self.stream_now = self.stream_now, stream.name
        yield
        self.stream_now = before

    def graph_pool_handle(self):
        self.calls.append("memory")
        return (0, 1)

    @contextmanager
    def graph(self, *args, **settings):
        inspect.signature(torch.cuda.graph).bind(*args, **settings)  # as torch takes them
        assert settings["pool"] == (0, 1)
        with self.stream(settings["stream"]):
            self.calls.append("begin")
            yield
            self.calls.append("end")


class Stream:
    def __init__(self, cuda, name):
        self.cuda, self.name = cuda, name

    def wait_stream(self, other):
        self.cuda.calls.append(f"{self.name} waits for {other.name}")


class Graph:
    def replay(self):
        pass


def test_cuda_graph_is_warmed_up_and_recorded_on_one_side_stream_in_one_memory(monkeypatch):
    cuda = Cuda()
    for name in ("current_stream", "device", "stream", "graph_pool_handle", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(module, "_side_stream", lambda device: Stream(cuda, "side"))
    recorder = CudaRecorder(torch.device("cuda", 0))
    assert cuda.calls == []

    def function():
        cuda.calls.append(f"work on {cuda.stream_now}")
        return [None]

    recorder.warm_up(function)
    assert cuda.calls == ["side waits for main", "work on side", "main waits for side"]
    cuda.calls.clear()
    for _ in range(2):
        replay, outputs = recorder.record(function)
        assert outputs == [None]
        replay()
    assert cuda.calls == ["memory", *["begin", "work on side", "end"] * 2]


def test_nothing_of_cuda_is_called_before_the_first_recording():
    CudaRecorder(torch.device("cuda", 7))
    assert not torch.cuda.is_initialized()
