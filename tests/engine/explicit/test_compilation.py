"""Compiled derivatives are those of the same functions; without a compiler there is a way back."""

import os

import pytest
import torch

from mamlcli.engine.execution import Execution
from mamlcli.engine.explicit import compilation
from mamlcli.engine.explicit.compilation import compiled, failure
from mamlcli.engine.networks import mlp
from tests.helpers.numerics import meta_gradient, relative_error
from tests.helpers.problems import SAME_SUMS, STEP_WEIGHTS, WAYS, WITH_RATES, problem


@pytest.fixture(autouse=True)
def no_failure_yet(monkeypatch):
    monkeypatch.setattr(compilation, "failures", [])


def broken_backend(graph, inputs):
    raise RuntimeError("no compiler here\nand more of it")


def test_without_a_compiler_the_function_itself_runs(monkeypatch):
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **keys: real(function, backend=broken_backend, **keys))
    double = compiled(lambda x: 2 * x)
    x = torch.ones(3)
    assert torch.equal(double(x), 2 * x)
    assert "no compiler here" in failure()
    assert torch.equal(double(x), 2 * x)


def test_errors_of_the_function_are_not_taken_for_the_compilers():
    def wrong(x):
        return x.reshape(7)

    with pytest.raises((RuntimeError, ValueError)):
        compiled(wrong)(torch.ones(3))


@pytest.mark.skipif(not compilation.has_compiler(), reason="no C++ compiler")
@pytest.mark.skipif(
    os.environ.get("ATEN_CPU_CAPABILITY") == "default", reason="inductor 2.14 writes C++ that does not compile there"
)
def test_compiled_meta_gradient_is_the_eager_one():
    # With learned rates and the losses of all steps: all that goes through the derivatives.
    case = problem(mlp((4,), WAYS, depth=1, width=5), transform=WITH_RATES["rates-of-both"])
    expected = meta_gradient(*case, Execution("explicit", 5), STEP_WEIGHTS)
    found = meta_gradient(*case, Execution("explicit", 5, compile=True), STEP_WEIGHTS)
    assert failure() is None
    assert relative_error(found.gradients, expected.gradients) < SAME_SUMS
