"""From finished studies to the evidence of each claim."""

from dataclasses import replace

import numpy as np
import pytest

from mamlcli.studies.claims.decisions import UNDECIDED
from mamlcli.studies.claims.evidence import decide_claims
from mamlcli.studies.claims.predictions import Study, value_key
from mamlcli.studies.claims.scales import SCALES
from tests.helpers.studies import grid_result


@pytest.mark.parametrize("name", SCALES)
def test_claims_find_every_cell_they_look_at_and_no_cell_is_trained_for_nothing(name):
    scale = SCALES[name]()
    looked_at = set()

    class Watched(dict):
        def __init__(self, key, values):
            super().__init__(dict.fromkeys(values, np.array([0.5, 0.6, 0.55])))
            self.key = key

        def __getitem__(self, value):
            looked_at.add((self.key, value))
            return super().__getitem__(value)

    studies, trained = [], set()
    for family in scale.families:
        keys = [value_key(*value) for value in family.values]
        scores = {metric: Watched(family.key, keys) for metric in ("loss", "accuracy")}
        studies.append(Study(family.key, family.words, scores, replace(grid_result(), cells=())))
        trained |= {(family.key, key) for key in keys}
    results = decide_claims(scale, studies)
    assert [text for result in results for text in result.missing if "operators" not in text] == []
    # Of linear regression, C7 looks at the operators of the other cells.
    assert {pair for pair in trained - looked_at if pair[0] != "linear-regression"} == set()


def test_claims_without_any_result_say_what_is_missing():
    results = decide_claims(SCALES["laptop"](), [])
    assert {result.verdict for result in results} == {UNDECIDED}
