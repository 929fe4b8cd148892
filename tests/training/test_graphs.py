"""When meta-gradients are replayed as CUDA graphs, and what a training says and computes with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mamlcli.common.errors import DeviceError, MamlError
from mamlcli.engine.execution import Execution
from mamlcli.training import graphs
from mamlcli.training.functions import training_execution, training_functions
from mamlcli.training.graphs import require_graphs
from tests.helpers.graphs import Recorded
from tests.helpers.running import built

pytestmark = pytest.mark.usefixtures("one_thread")


def test_graphs_without_cuda_are_refused_where_they_are_asked_for_and_only_there():
    asked = built("sinusoid", "execution.cuda_graphs=on")
    with pytest.raises(DeviceError, match=r"cuda_graphs: expected auto or off on cpu.*=auto, or use --device"):
        training_execution(asked)
    assert not asked.execution(num_tasks=2, num_steps=0).graphs  # what is scored needs none
    for value in ("auto", "off"):
        assert not training_execution(built("sinusoid", f"execution.cuda_graphs={value}")).graphs


def on_cuda(*keys):
    """Return an experiment that says that its device is a CUDA device."""
    # With a chunk of its own, so that nothing that was measured on such a device is looked up by its name.
    return replace(built("sinusoid", "execution.chunk=2", *keys), device=torch.device("cuda"))


def test_graphs_are_for_meta_gradients_of_the_explicit_path_on_cuda():
    assert training_execution(on_cuda()).graphs
    assert training_execution(on_cuda("execution.cuda_graphs=on")).graphs
    assert not training_execution(on_cuda("execution.cuda_graphs=off")).graphs
    assert not on_cuda().execution(num_tasks=2, num_steps=0).graphs
    for path in ("loop", "batched"):
        assert not training_execution(on_cuda(f"execution.path={path}")).graphs
    with pytest.raises(MamlError, match=r"for this network, got on\. It is computed by execution.path=loop"):
        require_graphs(on_cuda("execution.cuda_graphs=on").recipe, torch.device("cuda"), Execution("loop", 1))


def test_a_training_that_cannot_be_replayed_says_so_once_and_goes_on(monkeypatch):
    experiment, notes = built("sinusoid", "outer.tasks=3"), []
    how = Execution("explicit", 2, graphs=True)
    monkeypatch.setattr(graphs, "CudaRecorder", lambda device: Recorded(error=RuntimeError("no room")))
    gradients, _ = training_functions([experiment], how, on_note=notes.append)
    plain, _ = training_functions([experiment], Execution("explicit", 2))
    for iteration in range(2):
        [found], [expected] = (of([0], [experiment.initial_meta()], iteration) for of in (gradients, plain))
        assert torch.equal(found.outer_loss, expected.outer_loss)
    assert notes == ["execution.cuda_graphs: off, no room; results are the same without"]


def test_a_training_that_is_replayed_has_the_bits_of_one_that_is_not(monkeypatch):
    experiment = built("sinusoid", "outer.tasks=3", "inner.steps=2", "outer.multi_step_loss=3")
    recorder = Recorded()
    monkeypatch.setattr(graphs, "CudaRecorder", lambda device: recorder)
    gradients, _ = training_functions([experiment], Execution("explicit", 2, graphs=True))
    plain, _ = training_functions([experiment], Execution("explicit", 2))
    meta = experiment.initial_meta()
    for iteration in range(5):
        [found], [expected] = (of([0], [meta], iteration) for of in (gradients, plain))
        assert all(torch.equal(found.gradients[name], value) for name, value in expected.gradients.items())
    assert recorder.calls.count("record") == 4  # two sizes of chunks, while the steps are weighed and after
