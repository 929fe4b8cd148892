"""Every method reaches the numbers that it reached when its trace was kept: a few meta-iterations in float64.

Where a method is meant to change, `python -m tests.helpers.golden` writes the traces anew.
"""

from __future__ import annotations

import json

import pytest

from mamlcli.common.names import TRANSFORMS
from tests.helpers.golden import CASES, FILE, TOLERANCE, trace

pytestmark = pytest.mark.usefixtures("one_thread")

TRACES = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", CASES)
def test_method_reaches_the_numbers_of_its_trace(name, tmp_path):
    found, kept = trace(name, tmp_path), TRACES[name]
    assert found["outer_losses"] == pytest.approx(kept["outer_losses"], rel=TOLERANCE)
    assert found["validation"] == pytest.approx(kept["validation"], rel=TOLERANCE)
    assert found["meta_params"].keys() == kept["meta_params"].keys()
    for key, numbers in kept["meta_params"].items():
        # A sum of entries of both signs may be small, and is as exact as the norm. A bias before a batch norm has no
        # effect, and moves from zero by rounding alone.
        least = TOLERANCE * (numbers[0] if numbers[0] > 1e-6 else 1.0)
        assert found["meta_params"][key] == pytest.approx(numbers, rel=TOLERANCE, abs=least), key


def test_every_method_has_a_trace_of_its_own():
    assert list(TRACES) == list(CASES)
    assert {"maml", "fomaml", "anil", "boil", *TRANSFORMS} - {"none"} <= CASES.keys()
    same = {"maml", "constant memory"}  # which computes the same in another way
    traces = [json.dumps(kept["outer_losses"]) for name, kept in TRACES.items() if name not in same]
    assert len(set(traces)) == len(traces)
    for kept, other in zip(*(TRACES[name]["meta_params"].values() for name in sorted(same)), strict=True):
        assert kept == pytest.approx(other, rel=TOLERANCE, abs=TOLERANCE * kept[0])
