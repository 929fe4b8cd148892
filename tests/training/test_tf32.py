"""TF32 is off unless a recipe asks for it, and a caller's process has its own settings back."""

from __future__ import annotations

import pytest
import torch

from mamlcli.training.experiment import Experiment
from mamlcli.training.placement import process_kept
from mamlcli.training.tf32 import tf32_kept, use_tf32
from tests.helpers.running import built

BACKENDS = torch.backends


@pytest.fixture(autouse=True)
def as_torch_starts():
    with tf32_kept():
        BACKENDS.cuda.matmul.allow_tf32, BACKENDS.cudnn.allow_tf32 = False, True
        yield


def settings():
    return BACKENDS.cuda.matmul.allow_tf32, BACKENDS.cudnn.allow_tf32


@pytest.mark.parametrize("is_used", [False, True])
def test_products_and_convolutions_are_alike(is_used):
    use_tf32(is_used)
    assert settings() == (is_used, is_used)


def test_settings_are_as_before_also_after_an_error():
    def fails():
        with process_kept():
            use_tf32(True)
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fails()
    assert settings() == (False, True)


@pytest.mark.skipif(not hasattr(BACKENDS, "fp32_precision"), reason="torch before 2.9 has the first names alone")
def test_settings_under_newer_names_are_as_before():
    BACKENDS.cudnn.conv.fp32_precision = "ieee"  # torch does not tell allow_tf32 from here on
    with tf32_kept():
        use_tf32(True)
        assert settings() == (True, True)
    assert (BACKENDS.cudnn.conv.fp32_precision, BACKENDS.cudnn.rnn.fp32_precision) == ("ieee", "tf32")


@pytest.mark.parametrize(("keys", "expected"), [((), (False, False)), (("execution.tf32=true",), (True, True))])
def test_experiment_on_cuda_sets_what_its_recipe_says_and_one_on_the_cpu_sets_nothing(keys, expected, one_thread):
    experiment = built("sinusoid", *keys)
    experiment.use_threads()
    assert settings() == (False, True)
    on_cuda = Experiment(experiment.recipe, torch.device("cuda"), torch.float32, experiment.network, {}, {})
    on_cuda.use_threads()
    assert settings() == expected
