"""Rows of a claim, and its exact checks."""

import pytest

from mamlcli.studies.claims.claims import decide_claims
from mamlcli.studies.claims.predictions import ExactCheck
from tests.helpers.claims import around, family, plan_of, study


@pytest.mark.parametrize(("value", "holds"), [(0.0, True), (1e-12, True), (1.1e-12, False)])
def test_exact_check_holds_up_to_its_tolerance(value, holds):
    assert ExactCheck("an identity", value, 1e-12).holds is holds


def test_rows_that_decide_and_rows_beside_are_told_apart():
    of = family("maml", (1,), (1, 0, "kfo"), (1, 0, "meta-sgd"))
    scores = {value.key: around(1.0 - 0.3 * index, phase=index) for index, value in enumerate(of.values)}
    c4 = decide_claims(plan_of(of), [study(of, loss=scores, log_odds=scores)])[3]
    assert [row.contrast.words for row in c4.deciding] == ["depth 1, kfo better than depth 1"] * 2
    assert [row.contrast.words for row in c4.beside] == ["depth 1, meta-sgd better than depth 1"] * 2
