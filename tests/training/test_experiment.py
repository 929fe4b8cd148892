"""Building: what only data and device can tell is checked here, and the same seed gives the same start."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import functional_call

from mamlcli.common.errors import MamlError
from mamlcli.common.names import TRANSFORMS
from mamlcli.engine.execution import Execution
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.transforms import KFO, Identity, Selected
from mamlcli.recipe.files import load_recipe
from mamlcli.training.experiment import MAX_DENSE_ENTRIES, build_without_data
from tests.helpers.numerics import classification_episode, perturbed, trajectories
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


# Other ways than were trained ------------------------------------------------------------------------------

SMALL_IMAGES = (1, 4, 4)


def of_five_ways(*overrides):
    """Return an experiment on 5-way tasks of tiny images, and its meta-parameters away from their start."""
    words = ("model.width=4", "model.depth=1", "execution.dtype=float64", "inner.steps=2", *overrides)
    _, recipe = load_recipe("glyphs-5way-1shot", words)
    experiment = build_without_data(recipe, input_shape=SMALL_IMAGES, num_outputs=5)
    return experiment, MetaParams.from_flat(perturbed(experiment.initial_meta().flat(), scale=0.1))


@pytest.mark.parametrize("head", ["zero", "shared"])
@pytest.mark.parametrize("transform", ["none", "kfo"])
@pytest.mark.parametrize("ways", [3, 5, 7])
def test_head_without_ways_of_its_own_is_for_any_number_of_classes(head, transform, ways):
    of_body = (f"inner.transform={transform}", 'inner.transform.parameters=["body.*"]', "inner.rates=tensor-step")
    words = (f"inner.head={head}", *of_body)
    experiment, meta = of_five_ways(*words)
    other = experiment.for_ways(ways, where="evaluation.ways")
    assert other.network.num_outputs == ways
    episode = classification_episode(SMALL_IMAGES, num_tasks=2, ways=ways)
    scores = [trajectories(other.objective(3), meta, episode, Execution(path, 2)) for path in ("loop", "explicit")]
    assert scores[0].shape == (2, 4, 4)
    # All outputs are equal before the first step: the loss is that of guessing.
    assert torch.allclose(scores[0][:, 0, 2], torch.tensor(math.log(ways), dtype=torch.float64))
    assert torch.allclose(scores[0], scores[1])


@pytest.mark.parametrize("head", ["learned", "zero", "shared"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_fewer_ways_are_the_first_outputs_of_the_trained_network(head, transform):
    experiment, meta = of_five_ways(f"inner.head={head}", f"inner.transform={transform}")
    found = experiment.for_ways(3, where="evaluation.ways").objective()
    episode = classification_episode(SMALL_IMAGES, num_tasks=1, ways=3)
    support_x, support_y, query_x, query_y = (part[0] for part in episode.data())

    # By hand: the whole network, whose softmax is over the first three outputs.
    objective, whole = experiment.objective().with_learned_head(meta)
    inner, network, phi = objective.inner, objective.network, whole.model
    for _ in range(inner.num_inner_steps):
        phi = {name: value.detach().requires_grad_() for name, value in phi.items()}
        outputs = functional_call(network, phi, (support_x,))[:, :3]
        slopes = torch.autograd.grad(torch.nn.functional.cross_entropy(outputs, support_y), list(phi.values()))
        updates = inner.transform.apply(meta.transform, dict(zip(phi, slopes, strict=True)))
        phi = {name: value - inner.lr * updates[name] for name, value in phi.items()}
    outputs = functional_call(network, phi, (query_x,))[:, :3]
    expected = torch.nn.functional.cross_entropy(outputs, query_y)

    for path in ("loop", "batched", "explicit"):
        scores = trajectories(found, meta, episode, Execution(path, 1))
        assert torch.allclose(scores[0, -1, 2], expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ((), r"evaluation\.ways: expected at most 5 classes, got 7\. The learned head has 5 outputs"),
        (("inner.head=zero", "inner.transform=meta-sgd"), r"meta-sgd has the 5 ways in the shape of head\.0\.weight"),
        (("inner.head=shared", "inner.transform=kfo"), r"kfo has the 5 ways in the shape of head\.0\.weight/left"),
        (("inner.head=zero", "model.linear_layers=1", "model.linear_width=5", "model.width=9"), r"model\.linear_width"),
    ],
)
def test_more_ways_than_the_meta_parameters_are_for_are_refused_with_the_reason(overrides, reason):
    experiment, _ = of_five_ways(*overrides)
    with pytest.raises(MamlError, match=reason):
        experiment.for_ways(7, where="evaluation.ways")


def test_regression_has_no_ways():
    with pytest.raises(MamlError, match=r"evaluation\.ways: expected tasks that are classifications, got sinusoid"):
        built("sinusoid").for_ways(2, where="evaluation.ways")


def test_experiment_for_its_own_ways_is_itself():
    experiment, _ = of_five_ways("inner.head=zero")
    assert experiment.for_ways(5, where="evaluation.ways") is experiment
    assert experiment.for_ways(3, where="evaluation.ways").for_ways(7, where="x").network.num_outputs == 7


# What tasks are scored by ----------------------------------------------------------------------------------


def test_tasks_are_scored_by_what_they_are_trained_by_unless_the_evaluation_says_otherwise():
    experiment = built("sinusoid", "evaluation.shots=3")
    assert experiment.scoring_objective() is experiment.objective()
    assert experiment.scoring_objective(7).inner.num_inner_steps == 7


def test_scored_tasks_of_other_ways_have_a_network_of_as_many_outputs(cifar_of_two_splits):
    fewer = built(CIFAR, "tasks.shots=1", "evaluation.ways=3")
    assert (fewer.network.num_outputs, fewer.scoring_objective().network.num_outputs) == (5, 3)
    more = built(CIFAR, "tasks.shots=1", "evaluation.ways=8", "inner.head=shared")
    assert (more.network.num_outputs, more.scoring_objective().network.num_outputs) == (5, 8)


def test_more_ways_than_a_transform_has_in_its_shape_are_refused_before_anything_runs(cifar_of_two_splits):
    keys = ("tasks.shots=1", "evaluation.ways=8", "inner.head=zero", "inner.transform=kfo")
    with pytest.raises(MamlError, match=r"evaluation\.ways: expected at most 5 classes, got 8.*kfo has the 5"):
        built(CIFAR, *keys)


def test_batch_norm_by_the_support_set_is_for_scores_alone(cifar_of_two_splits):
    experiment = built(CIFAR, "tasks.shots=1", "evaluation.batch_norm=support")
    assert experiment.scoring_objective().inner.support_statistics
    assert not experiment.objective().inner.support_statistics


def test_chunks_of_an_evaluation_are_for_the_tasks_that_are_scored_and_those_of_training_for_its_own(
    cifar_of_two_splits,
):
    keys = ("tasks.shots=1", "model.width=16", "model.depth=2", "execution.threads=1")
    plain, larger = built(CIFAR, *keys), built(CIFAR, *keys, "evaluation.shots=3")
    scored, trained = (
        [experiment.execution(num_tasks=10_000, num_steps=num).chunk for experiment in (plain, larger)]
        for num in (0, 1)
    )
    assert scored[1] < scored[0]
    assert trained[1] == trained[0]
