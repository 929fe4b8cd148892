"""Where and how an experiment is computed: device, threads, and how its tasks are run."""

from __future__ import annotations

import pytest
import torch

from mamlcli.common.errors import DeviceError
from mamlcli.engine.execution import Execution
from mamlcli.recipe.files import load_recipe
from mamlcli.training.placement import memory_error, resolve_device, threads_kept, threads_of_one_operation, use_threads
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
    @threads_kept()
    def compute():
        torch.set_num_threads(2)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        compute()
    assert torch.get_num_threads() == 1


def test_numbers_too_small_to_matter_are_as_before_the_block():
    torch.set_flush_denormal(False)
    with threads_kept():
        use_threads(torch.get_num_threads())
        assert float(torch.tensor(1e-39) * 2.0) == 0.0
    assert float(torch.tensor(1e-39) * 2.0) != 0.0
