"""The scales of a reproduction: every study can be run, and has the cells that claims look at."""

import pytest

from mamlcli.recipe.files import shipped_recipes
from mamlcli.studies.claims.scales import OPTIMIZER, SCALES, laptop, paper


@pytest.mark.parametrize("name", SCALES)
def test_families_have_keys_of_their_own_and_shipped_recipes(name):
    scale = SCALES[name]()
    keys = [family.key for family in scale.families]
    assert scale.name == name
    assert len(set(keys)) == len(keys)
    assert {family.recipe for family in scale.families} <= set(shipped_recipes())


@pytest.mark.parametrize("name", SCALES)
def test_no_value_is_trained_twice_and_each_depth_is_there_with_and_without_the_transform(name):
    scale = SCALES[name]()
    for family in scale.families:
        assert len(set(family.values)) == len(family.values), family.key
        if family.key.endswith(("-maml", "-anil")):
            wanted = {(depth, 0, optimizer) for depth in scale.depths for optimizer in ("none", OPTIMIZER)}
            assert wanted <= set(family.values), family.key


@pytest.mark.parametrize("name", SCALES)
def test_deeper_linear_models_of_c1_are_trained_beside_shallow_ones(name):
    scale = SCALES[name]()
    values = {family.key: family.values for family in scale.families}
    for key, depth in scale.deeper.items():
        assert {(1, 0, "none"), (depth, 0, "none")} <= set(values[key])


def test_only_the_largest_scale_needs_all_packs():
    assert [name for name in SCALES if SCALES[name]().needs_packs] == ["paper"]
    assert {family.pack for family in laptop().families} == {None, "omniglot"}


def test_pools_of_mini_imagenet_shrink_with_depth():
    families = [family for family in paper().families if family.key.startswith("mini-imagenet")]
    assert len(families) == 2
    for family in families:
        assert [family.more[depth]["model.pool"] for depth in (1, 2, 3, 4)] == [4, 2, 1, 1]


def test_anil_families_say_so_in_their_changes():
    for family in laptop().families:
        if family.key.endswith("-anil"):
            assert "inner.algorithm=anil" in family.changes
            assert all(layers <= max(laptop().anil_layers) for _, layers, _ in family.values)
