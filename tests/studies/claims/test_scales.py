"""The scales of a reproduction: every cell can be made, is looked at, and has its rate."""

import pytest

from mamlcli.engine.sizes import count_parameters
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.files import load_recipe
from mamlcli.studies.claims.claims import contrasts_of
from mamlcli.studies.claims.contrasts import EQUAL_TO_KFO, EQUAL_TO_SHALLOW, CellValue
from mamlcli.studies.claims.decisions import UNTIL_DECIDED
from mamlcli.studies.claims.rates import RATES
from mamlcli.studies.claims.scales import SCALES, evening, laptop, paper
from mamlcli.training.experiment import build_network


def all_families(scale):
    return (*scale.families, *(family for families in scale.optional.values() for family in families))


def by_key(scale):
    return {family.key: family for family in all_families(scale)}


def recipe_of(family, value):
    _, recipe = load_recipe(family.recipe, list(family.changes))
    width = {} if value.width is None else {"model.width": value.width}
    changes = {
        "model.depth": value.depth,
        "model.linear_layers": value.layers,
        **width,
        **family.more.get(value.key, {}),
        "inner.transform": {"name": value.optimizer, "adapted": family.adapts and value.optimizer != "none"},
    }
    return changed_recipe(recipe, changes, family.key)


@pytest.mark.parametrize("name", SCALES)
def test_every_value_of_a_family_is_a_recipe_and_has_its_own_key(name):
    scale = SCALES[name]()
    families = all_families(scale)
    assert scale.name == name
    assert len({family.key for family in families}) == len(families)
    for family in families:
        assert len({value.key for value in family.values}) == len(family.values)
        assert {recipe_of(family, value).model.depth for value in family.values} == {v.depth for v in family.values}


@pytest.mark.parametrize("name", SCALES)
def test_no_cell_is_trained_for_nothing_and_none_is_missing(name):
    families = all_families(SCALES[name]())
    contrasts = contrasts_of(families)
    looked_at = {(contrast.study, cell) for contrast in contrasts for cell in contrast.cells}
    trained = {(family.key, value.key) for family in families for value in family.values}
    assert looked_at == trained
    assert {contrast.claim for contrast in contrasts if contrast.decides} == {f"C{number}" for number in range(1, 8)}


def test_numbers_of_seeds_at_the_looks():
    looks = {name: SCALES[name]().looks for name in SCALES}
    assert (looks["smoke"].seeds, looks["laptop"].seeds) == ((2,), (4,))
    assert looks["evening"] == looks["paper"] == UNTIL_DECIDED


def test_longer_scales_have_seeds_that_no_shorter_one_tests():
    made = [SCALES[name]() for name in ("laptop", "evening", "paper")]
    tested = [range(scale.first_seed, scale.first_seed + scale.looks.seeds[-1]) for scale in made]
    assert [seeds[0] for seeds in tested] == [100, 200, 300]
    assert not set(tested[0]) & set(tested[1]) | set(tested[1]) & set(tested[2])
    assert SCALES["smoke"]().first_seed == 100


def test_only_the_largest_scale_needs_all_packs():
    assert [name for name in SCALES if SCALES[name]().needs_packs] == ["paper"]
    assert {family.pack for family in laptop().families} == {None}
    assert {family.pack for family in evening().families} == {None, "omniglot"}


@pytest.mark.parametrize("scale", [SCALES["smoke"](), laptop()], ids=lambda scale: scale.name)
def test_scales_without_pilots_have_every_rate(scale):
    for family in scale.families:
        assert set(family.rates) == {value.key for value in family.values}
        assert all(rate > 0 for rate in family.rates.values())


def test_pilots_of_omniglot_start_where_those_of_glyphs_ended():
    families = by_key(evening())
    values = {value.key for value in families["glyphs-maml"].values}
    assert set(families["glyphs-maml"].rates) == set(RATES["glyphs-maml"]) < values  # pilots choose the others
    assert families["omniglot-maml"].rates == {}
    assert families["omniglot-maml"].first_rates == families["glyphs-maml"].rates
    assert families["omniglot-anil"].first_rates == families["glyphs-anil"].rates


def test_values_of_the_laptop_scale():
    families = by_key(laptop())
    assert {*families["glyphs-maml"].values} == {
        *map(CellValue, (1, 2, 4)),
        *(CellValue(1, layers) for layers in (2, 3)),
        *(CellValue(depth, optimizer="kfo") for depth in (1, 2, 4)),
        CellValue(1, optimizer="meta-sgd"),
        EQUAL_TO_SHALLOW,
    }
    assert EQUAL_TO_KFO in by_key(evening())["glyphs-maml"].values
    assert {value.key for value in families["glyphs-anil"].values} == {
        "depth 1",
        "depth 4",
        "depth 1, 2 linear layers",
        "depth 1, kfo",
        "depth 4, kfo",
    }


def test_margins_of_c1_come_from_recorded_excesses():
    families = by_key(laptop())
    assert families["linear-regression"].excess > 0
    assert families["logistic"].excess > 0
    assert families["glyphs-maml"].excess is None


def test_optional_families_are_named_and_adapt_transforms_where_they_say_so():
    optional = evening().optional
    assert list(optional) == ["cifar-fs", "adapted", "kfo-mlp"]
    [adapted], [non_linear] = optional["adapted"], optional["kfo-mlp"]
    assert recipe_of(adapted, CellValue(1, optimizer="kfo")).inner.transform.adapted
    assert not recipe_of(non_linear, CellValue(1, optimizer="kfo-mlp")).inner.transform.adapted


@pytest.mark.parametrize("key", ["omniglot-maml", "omniglot-anil", "mini-imagenet-maml", "mini-imagenet-anil"])
def test_paper_scale_scores_after_as_many_steps_as_it_trains(key):
    family = by_key(paper())[key]
    for value in family.values:
        recipe = recipe_of(family, value)
        assert recipe.inner.steps == recipe.evaluation.steps == 5
        assert (recipe.tasks.shots, recipe.scored_tasks.queries, recipe.outer.tasks) == (5, 5, 16)
        # As in the release, all that the algorithm adapts adapts, norms included.
        assert recipe.inner.adapt is None


def test_mini_imagenet_under_anil_is_the_releases():
    families = by_key(paper())
    maml = recipe_of(families["mini-imagenet-maml"], CellValue(2))
    anil = recipe_of(families["mini-imagenet-anil"], CellValue(2))
    assert (maml.model.width, maml.outer.lr, maml.outer.iterations) == (32, 0.0005, 20000)
    assert (anil.model.width, anil.outer.lr, anil.outer.iterations) == (64, 0.001, 3500)
    assert anil.inner.joint_features
    assert not maml.inner.joint_features


def test_mini_imagenet_has_the_releases_features_and_kfo():
    family = by_key(paper())["mini-imagenet-maml"]
    # 84 pixels, floored at every max-pool, by 32 channels: 10; 21, 5; 42, 21, 10; 42, 21, 10, 5.
    features = {1: 3200, 2: 800, 3: 3200, 4: 800}
    for depth, size in features.items():
        network = build_network(recipe_of(family, CellValue(depth)), (3, 84, 84), 5)
        assert dict(network.named_parameters())["head.0.weight"].shape == (5, size)


def test_kfo_on_the_releases_mini_imagenet_network_has_its_size():
    family = by_key(paper())["mini-imagenet-maml"]
    network = build_network(recipe_of(family, CellValue(2)), (3, 84, 84), 5)
    # L and R of each tensor: conv [out, in, 3, 3] as `out` matrices [in, 9], other vectors as [n, 1].
    sizes = []
    for _, tensor in network.named_parameters():
        shape = tuple(tensor.shape)
        rows, columns = (shape[1], 9) if len(shape) == 4 else (*shape, 1)[:2]
        sizes.append(rows**2 + columns**2)
    assert sum(sizes) == 647_396
    assert count_parameters(dict(network.named_parameters())) < 20_000
