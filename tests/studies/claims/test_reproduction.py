"""What a reproduction runs: its families, their sweeps and cells."""

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.studies.claims.reproduction import present_families, sweep_of
from mamlcli.studies.claims.scales import SCALES, Family
from mamlcli.studies.sweeps.sweep import cells_of


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
