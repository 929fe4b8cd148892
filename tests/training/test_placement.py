"""Where and how an experiment is computed: device, threads, and how its tasks are run."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch

from mamlcli.common.errors import DeviceError, RecipeError
from mamlcli.engine.choice import choose_execution
from mamlcli.engine.execution import Execution
from mamlcli.recipe.files import load_recipe
from mamlcli.training.placement import (
    device_and_dtype,
    is_guest,
    memory_error,
    process_kept,
    resolve_device,
    threads_of_one_operation,
    use_threads,
)
from mamlcli.training.tuned import TunedChoice, store_tuned
from tests.helpers.running import built

pytestmark = pytest.mark.usefixtures("one_thread")


NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@NO_CUDA
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_without_one_is_refused(name):
    with pytest.raises(DeviceError, match=r"which has 0 CUDA devices, got 'cuda.*--device cpu"):
        resolve_device(name)


def test_cuda_device_beyond_the_last_is_refused():
    with pytest.raises(DeviceError, match=f"cuda:{torch.cuda.device_count() + 1}"):
        resolve_device(f"cuda:{torch.cuda.device_count() + 1}")


def test_auto_is_a_device_of_this_machine():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


def test_execution_is_as_the_recipe_says():
    assert built("sinusoid", "execution.path=loop").execution(num_tasks=9, num_steps=1) == Execution("loop", 1)
    chunked = built("sinusoid", "execution.chunk=4", "outer.tasks=4")
    assert chunked.execution(num_tasks=9, num_steps=1) == Execution("explicit", 4)
    assert chunked.execution(num_tasks=2, num_steps=1) == Execution("explicit", 2)
    assert built("sinusoid").execution(num_tasks=9, num_steps=1) == Execution("explicit", 9)


def test_threads_are_as_the_recipe_says_and_set_only_when_asked():
    loop = built("sinusoid", "execution.path=loop", "execution.threads=2")
    assert (torch.get_num_threads(), loop.num_threads) == (1, 2)
    loop.use_threads()
    assert torch.get_num_threads() == 2


def test_explicit_path_gives_each_thread_its_own_tasks():
    torch.set_num_threads(2)
    sizes = ("model.width=300", "model.depth=3", "execution.threads=null", "outer.tasks=8")
    for _ in range(2):  # the second experiment has as many threads as the first
        experiment = built("sinusoid", *sizes)
        experiment.use_threads()
        assert (torch.get_num_threads(), experiment.num_threads) == (1, 2)
        assert experiment.execution(num_tasks=8, num_steps=1).parallel == 2
    assert built("sinusoid", *sizes, "execution.threads=1").execution(num_tasks=8, num_steps=1).parallel == 1


def test_small_models_and_the_explicit_path_have_one_thread_for_an_operation():
    small, large = (
        built("sinusoid", "execution.threads=null", f"model.width={width}", "outer.tasks=100") for width in (5, 1000)
    )

    def threads(experiment, path):
        return threads_of_one_operation(experiment.recipe, experiment.network, Execution(path, 1), 2)

    assert [threads(experiment, "loop") for experiment in (small, large)] == [1, 2]
    assert threads(large, "explicit") == 1


def test_measured_choice_comes_before_auto_and_after_the_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shape = {"num_tasks": 8, "num_steps": 2}
    experiment = built("sinusoid", "outer.tasks=8", "inner.steps=2")
    auto = experiment.execution(**shape)
    chosen = Execution("batched", 3)
    store_tuned(experiment.tuning_key(**shape), TunedChoice(chosen))
    assert experiment.execution(**shape) == chosen
    assert experiment.execution(num_tasks=8, num_steps=0).path == auto.path  # nothing was measured for that
    assert built("sinusoid", "outer.tasks=8", "inner.steps=2", "execution.chunk=2").execution(**shape).chunk == 2
    assert built("sinusoid", "outer.tasks=8", "inner.steps=2", "model.width=41").execution(**shape) == auto


def test_memory_error_names_what_to_lower_first():
    recipe = load_recipe("sinusoid", ["inner.steps=3", "model.width=40"])[1]

    def text(how, of=recipe):
        return str(memory_error(of, how, RuntimeError("out of memory\nmore")))

    assert "enough for execution.chunk=4, inner.steps=3, inner.memory=unrolled, " in text(Execution("explicit", 4))
    assert "got out of memory. Set execution.chunk=1, then inner.memory=constant" in text(Execution("explicit", 4))
    assert "execution.threads=2" in text(Execution("explicit", 1, parallel=2))
    assert "Set execution.threads=1, then inner.memory=constant" in text(Execution("explicit", 1, parallel=2))
    constant = load_recipe("sinusoid", ["inner.memory=constant"])[1]
    assert "Set a smaller model.width, then a smaller model.width" in text(Execution("explicit", 1), constant)


def test_threads_are_kept_also_where_the_block_fails():
    @process_kept()
    def compute():
        torch.set_num_threads(2)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        compute()
    assert torch.get_num_threads() == 1


def test_numbers_too_small_to_matter_are_as_before_the_block():
    torch.set_flush_denormal(False)
    with process_kept():
        use_threads(torch.get_num_threads())
        assert float(torch.tensor(1e-39) * 2.0) == 0.0
    assert float(torch.tensor(1e-39) * 2.0) != 0.0


# The GPU of a Mac -------------------------------------------------------------------------------------------------


@pytest.fixture
def mac(monkeypatch):
    """Be a Mac with a GPU, as far as torch says."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)


def test_gpu_of_a_mac_is_taken_where_it_is_asked_for_and_not_by_itself(mac):
    assert resolve_device("mps") == torch.device("mps")
    assert resolve_device("auto").type != "mps"


@pytest.mark.parametrize(("is_built", "needs"), [(True, "a Mac with an Apple GPU"), (False, "a torch for Macs")])
def test_gpu_of_a_mac_is_refused_elsewhere_with_what_it_needs(monkeypatch, is_built, needs):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: is_built)
    with pytest.raises(DeviceError, match=f"mps needs {needs}.*, got 'mps'. Use --device auto, or --device cpu"):
        resolve_device("mps")


def test_mps_has_no_float64(mac):
    recipe = load_recipe("sinusoid", ["execution.device=mps", "execution.dtype=float64"])[1]
    with pytest.raises(
        DeviceError, match=r"execution\.dtype: expected float32 on mps.*execution\.dtype=float32, or use"
    ):
        device_and_dtype(recipe)
    single = load_recipe("sinusoid", ["execution.device=mps"])[1]
    assert device_and_dtype(single) == (torch.device("mps"), torch.float32)


@pytest.mark.parametrize("name", ["gpu", "CUDA", "xpu", "cuda:", "cuda:-1", "mps:0", "cuda0", ""])
def test_other_names_of_devices_are_refused_with_those_there_are(name):
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda, cuda:N or mps, got"):
        resolve_device(name)
    with pytest.raises(RecipeError, match=r"execution.device: expected auto, cpu, cuda, cuda:N or mps, got"):
        load_recipe("sinusoid", [f"execution.device={name!r}"])


def test_cuda_device_that_is_not_there_leads_to_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match=r"which has 2 CUDA devices, got 'cuda:9'.*--device cuda:0 to cuda:1"):
        resolve_device("cuda:9")


def test_execution_is_chosen_for_mps_too():
    made = built("glyphs-5way-1shot").objective()
    sizes = {"num_support": 5, "num_query": 75, "num_inner_steps": 5, "num_tasks": 4}
    assert choose_execution(made, **sizes, device_type="mps").parallel == 1


# The process of a caller ------------------------------------------------------------------------------------------


def test_users_own_number_of_threads_is_believed_after_a_call(monkeypatch):
    monkeypatch.setattr("mamlcli.training.placement._shared", None)  # as in a process that has computed nothing
    torch.set_num_threads(2)
    with process_kept():
        use_threads(1)
    torch.set_num_threads(1)
    assert built("sinusoid", "execution.threads=null").num_threads == 1


def test_memory_of_a_callers_process_is_given_back_as_the_caller_likes(monkeypatch):
    asked = []
    for name in ("give_back_large_blocks", "keep_large_blocks"):
        monkeypatch.setattr(f"mamlcli.training.experiment.{name}", partial(asked.append, name))
    with process_kept():
        built("sinusoid", "inner.memory=constant")
        built("sinusoid")
    assert (asked, is_guest()) == ([], False)
    built("sinusoid", "inner.memory=constant")
    built("sinusoid")
    assert asked == ["give_back_large_blocks", "keep_large_blocks"]


def test_environment_is_as_before_but_for_what_the_caller_set(monkeypatch):
    monkeypatch.setenv("TORCH_A", "before")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with process_kept():
        os.environ.update({"TORCH_A": "after", "TORCHINDUCTOR_CACHE_DIR": "/x", "OF_THE_CALLER": "1"})
    assert (os.environ["TORCH_A"], os.environ.get("TORCHINDUCTOR_CACHE_DIR")) == ("before", None)
    assert os.environ.pop("OF_THE_CALLER") == "1"
