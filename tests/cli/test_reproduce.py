"""`mamlcli reproduce`."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mamlcli.common.errors import MamlError
from mamlcli.studies.claims.decisions import UNDECIDED
from mamlcli.studies.claims.evidence import decide_claims
from mamlcli.studies.claims.predictions import Study, value_key
from mamlcli.studies.claims.reproduction import present_families, sweep_of
from mamlcli.studies.claims.scales import SCALES, Family
from mamlcli.studies.sweeps.sweep import cells_of
from tests.studies.sweeps.test_axes import grid_result


def test_smoke_runs_everything_and_decides_only_what_is_exact(tmp_path, cli, with_glyphs):
    done = cli("reproduce", "--scale", "smoke", "--seeds", "1", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [claim["id"] for claim in found["claims"]] == ["C1", "C2", "C3", "C4", "C5", "C6", "C7"]
    assert {claim["verdict"] for claim in found["claims"]} == {UNDECIDED}
    checks = [check for claim in found["claims"] for check in claim["evidence"]["checks"]]
    assert checks
    assert all(check["holds"] for check in checks)
    folder = tmp_path / "runs" / "reproduce-smoke"
    assert "C7" in (folder / "report.md").read_text()
    assert "data:image/png;base64," in (folder / "report.html").read_text()
    # Again: every cell was done, nothing is trained, the result is the same.
    again = cli("reproduce", "--scale", "smoke", "--seeds", "1", "--json")
    assert again.err.count("(was done)") > 10
    assert json.loads(again.out)["claims"] == found["claims"]


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


@pytest.mark.parametrize("name", SCALES)
def test_fixed_inner_rate_is_always_a_candidate(name):
    for family in SCALES[name]().families:
        sweep = sweep_of(family, 1)
        assert sweep.recipe.inner.lr in sweep.inner_lrs, family.key


def test_laptop_leaves_out_what_has_no_pack_and_paper_refuses():
    families, left_out = present_families(SCALES["laptop"]())
    assert {family.key for family in families} == {"linear-regression", "logistic", "glyphs-maml", "glyphs-anil"}
    assert "omniglot" in left_out[0]
    with pytest.raises(MamlError, match="mamlcli data fetch omniglot; mamlcli data fetch cifar-fs"):
        present_families(SCALES["paper"]())


def test_cells_of_a_family_share_seeds_and_meta_test_tasks():
    family = next(family for family in SCALES["laptop"]().families if family.key == "glyphs-maml")
    assert isinstance(family, Family)
    cells = cells_of(sweep_of(family, 3))
    assert len({cell.recipe.evaluation.model_dump_json() for cell in cells}) == 1
    by_value = {}
    for cell in cells:
        by_value.setdefault((cell.value.label, cell.inner_lr), []).append(cell.seed)
    assert {tuple(seeds) for seeds in by_value.values()} == {(0, 1, 2)}


def test_unknown_scale_is_refused_with_the_nearest_name(tmp_path, cli):
    done = cli("reproduce", "--scale", "labtop")
    assert done.code == 1
    assert "Did you mean 'laptop'?" in done.err
    assert not (tmp_path / "runs").exists()
