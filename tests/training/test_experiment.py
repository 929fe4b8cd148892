"""Building: what only data and device can tell is checked here, and the same seed gives the same start."""

from __future__ import annotations

import pytest
import torch

from mamlcli.common.errors import MamlError
from mamlcli.common.names import TRANSFORMS
from mamlcli.engine.transforms import KFO, Identity, Selected
from mamlcli.training.experiment import MAX_DENSE_ENTRIES
from tests.helpers.running import built

pytestmark = pytest.mark.usefixtures("one_thread")


CIFAR = "cifar-fs-5way-5shot"


# Patterns and transforms -----------------------------------------------------------------------------------


def test_pattern_that_matches_nothing_is_refused_with_the_names_there_are():
    with pytest.raises(MamlError, match=r"inner\.adapt: .* got 'nope\*'.*head\.0\.weight"):
        built("sinusoid", 'inner.adapt=["nope*"]')


def test_pattern_of_a_transform_that_matches_nothing_is_refused():
    with pytest.raises(MamlError, match=r"inner\.transform\.parameters: .* got 'nope'"):
        built("sinusoid", "inner.transform=kfo", "inner.transform.parameters=[nope]")


def test_pattern_of_a_transform_is_looked_for_among_what_adapts():
    with pytest.raises(MamlError, match=r"inner\.transform\.parameters"):
        built("sinusoid", "inner.algorithm=anil", "inner.transform=kfo", 'inner.transform.parameters=["body*"]')


def test_anil_that_adapts_the_body_is_refused():
    with pytest.raises(MamlError, match=r"inner\.adapt: expected parameters of the head"):
        built("sinusoid", "inner.algorithm=anil", 'inner.adapt=["*"]')


def test_dense_transform_of_a_large_tensor_is_refused_with_the_tensor():
    with pytest.raises(MamlError, match=f"body.*with 10000 entries, above {MAX_DENSE_ENTRIES}"):
        built("sinusoid", "inner.transform=dense", "model.width=100")


def test_dense_transform_of_small_tensors_of_a_large_model_is_built():
    chosen = ("inner.transform=dense", "model.width=100", 'inner.transform.parameters=["*bias"]')
    assert isinstance(built("sinusoid", *chosen).objective().inner.transform, Selected)


def test_transform_has_meta_parameters_of_its_own():
    meta = built("linear-regression", "inner.transform=kfo").initial_meta()
    assert meta.transform
    assert not built("linear-regression").initial_meta().transform


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_built(name):
    experiment = built("linear-regression", f"inner.transform={name}")
    transform = experiment.objective().inner.transform
    assert isinstance(transform, Identity) == (name == "none")
    assert isinstance(transform, KFO) == (name == "kfo")
    assert bool(experiment.initial_meta().transform) == (name != "none")


@pytest.mark.parametrize("rates", ["tensor", "step", "tensor-step"])
def test_learned_rates_start_at_the_inner_rate_and_are_those_of_training_at_any_number_of_steps(rates):
    experiment = built("sinusoid", f"inner.rates={rates}", "inner.lr=0.02", "inner.steps=3", "inner.algorithm=anil")
    found = experiment.initial_meta().transform
    names = ["*/rate"] if rates == "step" else ["head.0.weight/rate", "head.0.bias/rate"]
    assert list(found) == names
    assert all(value.shape == (() if rates == "tensor" else (3,)) for value in found.values())
    assert all((value == torch.tensor(0.02)).all() for value in found.values())
    assert experiment.objective(10).inner.transform == experiment.objective().inner.transform


def test_outer_loop_has_the_least_rate_and_the_weight_decay_of_the_recipe():
    keys = ("outer.schedule=cosine", "outer.lr_min=1e-5", "outer.weight_decay=0.01")
    outer = built("sinusoid", *keys).outer_loop()
    assert (outer.lr_min, outer.weight_decay) == (1e-5, 0.01)
    outer = built("sinusoid").outer_loop()
    assert (outer.lr_min, outer.weight_decay) == (0.0, 0.0)


# Networks --------------------------------------------------------------------------------------------------


def test_linear_network_has_as_many_layers_as_its_depth():
    network = built("linear-regression", "model.depth=3", "tasks.dimension=7").network
    shapes = [tuple(value.shape) for name, value in network.named_parameters() if name.endswith("weight")]
    assert shapes == [(7, 7), (7, 7), (1, 7)]


def test_mlp_has_as_many_hidden_layers_as_its_depth():
    network = built("sinusoid", "model.depth=3", "model.width=5").network
    shapes = [tuple(value.shape) for name, value in network.named_parameters() if name.endswith("weight")]
    assert shapes == [(5, 1), (5, 5), (5, 5), (1, 5)]


def test_cnn_has_as_many_blocks_as_its_depth_and_an_output_for_each_way(cifar_of_two_splits):
    network = built(CIFAR, "tasks.shots=1", "model.depth=2", "model.width=6", "tasks.ways=4").network
    convolutions = [tuple(v.shape) for name, v in network.named_parameters() if name.endswith("conv.weight")]
    assert convolutions == [(6, 3, 3, 3), (6, 6, 3, 3)]
    assert next(v.shape[0] for name, v in network.named_parameters() if name == "head.0.weight") == 4


def test_network_too_deep_for_its_images_is_refused(cifar_of_two_splits):
    with pytest.raises(MamlError, match=r"model\.depth"):
        built(CIFAR, "tasks.shots=1", "model.depth=9", "model.pool=4")


def test_dtype_is_that_of_parameters_and_inputs():
    experiment = built("sinusoid", "execution.dtype=float64")
    assert {value.dtype for value in experiment.initial_meta().model.values()} == {torch.float64}
    episode = experiment.distributions["train"].sample([torch.Generator()])
    assert episode.support_x.dtype == torch.float64


# Splits and data -------------------------------------------------------------------------------------------


# The start -------------------------------------------------------------------------------------------------


def same(first, second):
    return all(torch.equal(first.flat()[name], value) for name, value in second.flat().items())


@pytest.mark.parametrize("transform", ["none", "kfo", "kfo-mlp"])
def test_same_seed_gives_the_same_initial_values(transform):
    override = f"inner.transform={transform}"
    first = built("sinusoid", override).initial_meta()
    assert first.flat()
    torch.manual_seed(99)  # global randomness plays no part
    assert same(first, built("sinusoid", override).initial_meta())
    assert not same(first, built("sinusoid", override, "seed=1").initial_meta())


def test_objective_takes_other_numbers_of_inner_steps():
    experiment = built("sinusoid", "inner.steps=3")
    assert experiment.objective().inner.num_inner_steps == 3
    assert experiment.objective(8).inner.num_inner_steps == 8


def test_outer_loop_is_as_the_recipe_says():
    words = (
        "outer.optimizer=sgd",
        "outer.schedule=cosine",
        "outer.lr=0.5",
        "outer.clip_norm=2",
        "seed=4",
        "validation={every: 3, patience: 2}",
    )
    outer = built("sinusoid", *words).outer_loop()
    assert (outer.optimizer, outer.schedule, outer.lr, outer.clip_norm) == ("sgd", "cosine", 0.5, 2.0)
    assert (outer.validate_every, outer.patience, outer.seed, outer.num_outer_steps) == (3, 2, 4, 2)
