"""The three studies: their axes, the appended start, the collapse, closed forms, the capacity arm, figures."""

import pytest

from mamlcli.common.errors import MamlError, RecipeError, RunError
from mamlcli.common.names import TRANSFORMS
from mamlcli.recipe.files import load_recipe
from mamlcli.studies.sweeps.axes import depth_sweep, linear_sweep, optimizer_sweep
from mamlcli.studies.sweeps.sweep import cells_of, check_sweep
from tests.helpers.plugins import one_file_fixture  # noqa: F401
from tests.helpers.studies import recipe_of, start_of

# Axes ---------------------------------------------------------------------------------------------------------


def test_an_unknown_optimizer_is_refused_with_the_nearest_name():
    with pytest.raises(RecipeError, match=r"got 'kfo-mpl'\. Did you mean 'kfo-mlp'\?"):
        optimizer_sweep("logistic", recipe_of("logistic"), optimizers=["none", "kfo-mpl"], num_seeds=1)


def test_a_value_twice_is_refused():
    with pytest.raises(MamlError, match=r"--depths: expected each value once, got 2 twice"):
        depth_sweep("logistic", recipe_of("logistic"), depths=[1, 2, 2], num_seeds=1)


def test_every_optimizer_works_with_every_algorithm_adapted_or_not():
    for overrides in (
        ["inner.algorithm=maml"],
        ["inner.algorithm=anil"],
        ["inner.algorithm=fomaml"],
        ["inner.algorithm=anil", "inner.first_order=true"],
        ["inner.transform.parameters=[head.*]"],
        ["inner.transform.name=kfo", "inner.transform.adapted=true"],
    ):
        recipe = recipe_of("logistic", *overrides)
        sweep = optimizer_sweep("logistic", recipe, optimizers=TRANSFORMS, num_seeds=1)
        assert check_sweep(sweep).recipe.inner.algorithm == recipe.inner.algorithm  # each can be built
        assert [cell.recipe.inner.transform.name for cell in cells_of(sweep)] == list(TRANSFORMS)


def test_none_beside_adapted_transforms_has_nothing_to_adapt():
    recipe = recipe_of("logistic", "inner.transform.name=kfo", "inner.transform.adapted=true")
    cells = cells_of(optimizer_sweep("logistic", recipe, optimizers=["none", "meta-sgd"], num_seeds=1))
    assert [cell.recipe.inner.transform.adapted for cell in cells] == [False, True]


def test_a_grid_compares_optimizers_at_the_same_depth_and_depths_with_the_same_optimizer():
    sweep = optimizer_sweep("logistic", recipe_of("logistic"), optimizers=["none", "kfo"], depths=[1, 2], num_seeds=1)
    values = [value.value for value in sweep.values]
    pairs = {tuple((values[i].depth, values[i].optimizer) for i in pair) for pair in sweep.pairs}
    assert pairs == {
        ((1, "kfo"), (1, "none")),
        ((2, "kfo"), (2, "none")),
        ((2, "none"), (1, "none")),
        ((2, "kfo"), (1, "kfo")),
    }


# Networks of plug-ins -------------------------------------------------------------------------------------------


def test_a_plugin_has_the_axes_that_are_its_keys(one_file):
    recipe = load_recipe("sinusoid", ["model={kind: net}"])[1]
    assert len(optimizer_sweep("sinusoid", recipe, optimizers=["none", "kfo"], num_seeds=1).values) == 2
    with pytest.raises(MamlError, match=r"^model\.kind=net: expected a network with the key model\.depth.*meta-opt"):
        depth_sweep("sinusoid", recipe, depths=[1, 2], num_seeds=1)
    with pytest.raises(MamlError, match=r"^model\.kind=net: expected a network with the key model\.linear_layers"):
        linear_sweep("sinusoid", recipe, layers=[0, 1], num_seeds=1)


# Appended layers ------------------------------------------------------------------------------------------------


def test_a_run_that_has_appended_layers_already_is_refused_as_a_start(shallow):
    run, _ = start_of(shallow, 1, seed=5)
    with pytest.raises(RunError, match="without appended linear layers"):
        linear_sweep("logistic", run.recipe, layers=[1], num_seeds=1, started_from=run.path)
