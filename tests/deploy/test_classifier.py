"""The classifier: assignments, weights of classes, and the statistics of batch norm."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mamlcli.common.errors import MamlError
from mamlcli.deploy.classifier import (
    SupportClassifier,
    adapt_to_support,
    assignments,
    class_weights,
    left_out_indices,
    support_classifier,
)
from mamlcli.engine.execution import Execution, trajectories
from mamlcli.engine.networks import apply_network
from mamlcli.engine.objective import TRAJECTORY_COLUMNS, MetaParams
from mamlcli.engine.rates import with_rates
from mamlcli.engine.support_statistics import with_statistics_of_first
from mamlcli.engine.transforms import Identity
from mamlcli.recipe.files import load_recipe
from mamlcli.tasks.episodes import Episode
from mamlcli.training.experiment import build, build_without_data
from tests.helpers.image_files import class_folders, noise
from tests.helpers.predictions import TRAINING


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A network of five outputs, as at the start of training, in float64."""
    path = class_folders(tmp_path_factory.mktemp("x") / "x", [f"c{index}" for index in range(8)])
    keys = [*TRAINING, "tasks.ways=5", "execution.dtype=float64", f"tasks.path={path}"]
    experiment = build(load_recipe("folder", keys)[1], splits=("train",))
    return SupportClassifier(experiment.objective(), experiment.initial_meta())


def images(num, seed=0):
    return torch.from_numpy(noise(num, 3, 12, 12, seed=seed)).double() / 255


def test_equal_shots_with_one_assignment_are_plain_maml(classifier):
    # Adapting with one weight for each class and the statistics of the support is `adapt` and one forward pass.
    from mamlcli.engine.inner_loop import adapt
    from mamlcli.engine.objective import example_loss

    x, y, query = images(10), torch.arange(5).repeat_interleave(2), images(1, seed=1)
    objective, meta = classifier.objective, classifier.meta
    fast = adapt(
        lambda fast: example_loss(apply_network(objective.network, {**meta.model, **fast}, x), y),
        meta.model,
        meta.transform,
        objective.inner,
    ).fast_weights
    network = with_statistics_of_first(objective.network, 10)
    expected = apply_network(network, {**meta.model, **fast}, torch.cat([x, query]))[10:].softmax(dim=-1)
    probabilities = replace(classifier, num_assignments=1).classify(x, y, query)
    torch.testing.assert_close(probabilities, expected, rtol=1e-6, atol=1e-9)  # the weights are float32 fractions


def test_learned_rates_are_those_of_the_step_in_every_assignment(classifier):
    # The rates of the first two steps, and the last for a third step; several assignments pass at once.
    objective, xi = classifier.objective, {"*/rate": torch.tensor([0.02, 0.05], dtype=torch.float64)}
    learned = with_rates(Identity(), "step", lr=objective.inner.lr, num_steps=2)
    inner = replace(objective.inner, transform=learned, num_inner_steps=3)
    x, y, query = images(10), torch.arange(5).repeat_interleave(2), images(2, seed=1)
    rated = SupportClassifier(replace(objective, inner=inner), MetaParams(classifier.meta.model, xi))

    # The same by inner loops of one step each, of that step's rate.
    meta = classifier.meta
    for rate in (0.02, 0.05, 0.05):
        one = replace(objective, inner=replace(objective.inner, lr=rate, num_inner_steps=1))
        chosen = torch.arange(5)
        fast = adapt_to_support(one, meta, x, y, class_weights(y).double(), chosen)
        meta = MetaParams({**meta.model, **fast}, {})
    found = adapt_to_support(rated.objective, rated.meta, x, y, class_weights(y).double(), torch.arange(5))
    assert all(torch.allclose(found[name], value, rtol=1e-9, atol=1e-12) for name, value in fast.items())
    assert rated.classify(x, y, query).sum(dim=-1) == pytest.approx(1.0)


def test_shifting_the_classes_along_the_outputs_changes_nothing(classifier):
    x, query = images(5), images(4, seed=1)
    probabilities = classifier.classify(x, torch.arange(5), query)
    shifted = classifier.classify(x, (torch.arange(5) + 2) % 5, query)
    torch.testing.assert_close(shifted[:, (torch.arange(5) + 2) % 5], probabilities)


def test_every_class_has_the_same_weight_whatever_its_shots():
    assert class_weights(torch.tensor([0, 1, 1, 1])).tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])


def test_uint8_query_images_are_scaled_as_in_training(classifier):
    x, query = images(5), torch.from_numpy(noise(4, 3, 12, 12, seed=1))
    expected = classifier.classify(x, torch.arange(5), query.double() / 255)
    torch.testing.assert_close(classifier.classify(x, torch.arange(5), query), expected)


def test_many_query_images_are_done_in_parts_with_the_same_result(classifier, monkeypatch):
    x, query, done = images(5), images(7, seed=1), []
    whole = classifier.classify(x, torch.arange(5), query)
    monkeypatch.setattr("mamlcli.deploy.classifier.QUERY_CHUNK", 3)
    parts = classifier.classify(x, torch.arange(5), query, advance=done.append)
    torch.testing.assert_close(parts, whole)
    assert done == [3, 3, 1]


def test_assignments_use_each_output_once_for_a_class():
    assert assignments(2, 3, 5).tolist() == [[0, 1], [1, 2], [2, 0]]
    assert assignments(2, 20, 5)[:, 0].tolist() == [0, 4, 8, 12, 16]


def test_images_are_left_out_of_classes_that_have_another():
    y = torch.tensor([0, 1, 1, 2, 2, 2])
    assert list(left_out_indices(y, 10)) == [1, 2, 3, 4, 5]
    assert list(left_out_indices(y, 2)) == [1, 3]


@pytest.mark.parametrize("path", ["loop", "batched", "explicit"])
def test_tasks_scored_by_the_statistics_of_the_support_set_have_the_predictions_for_own_images(classifier, path):
    x, y, query, truth = images(10), torch.arange(5).repeat_interleave(2), images(4, seed=1), torch.tensor([0, 4, 2, 2])
    objective = classifier.objective
    by_support = replace(objective, inner=replace(objective.inner, support_statistics=True))
    episode = Episode(*(part.unsqueeze(0) for part in (x, y, query, truth)), truth={})
    [scores] = trajectories(by_support, [classifier.meta], episode, Execution(path))
    probabilities = replace(classifier, num_assignments=1).classify(x, y, query)
    loss = -probabilities[range(4), truth].log().mean()
    final = dict(zip(TRAJECTORY_COLUMNS, scores[0, -1], strict=True))
    torch.testing.assert_close(final["query_loss"], loss, rtol=1e-6, atol=1e-9)  # the weights are float32 fractions
    assert final["query_accuracy"] == (probabilities.argmax(dim=-1) == truth).double().mean()


# Outputs that start the same -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["zero", "shared"])
def free(request):
    """An experiment of five ways, not trained, whose outputs start the same, and its meta-parameters."""
    words = ("model.width=4", "model.depth=1", "execution.dtype=float64", f"inner.head={request.param}")
    _, recipe = load_recipe("glyphs-5way-1shot", words)
    experiment = build_without_data(recipe, input_shape=(3, 12, 12), num_outputs=5)
    return experiment, experiment.initial_meta()


def classified(free, y, num_classes, **settings):
    classifier = support_classifier(*free, num_classes, num_steps=4, where="here", **settings)
    return classifier.classify(images(len(y)), y, images(6, seed=1))


@pytest.mark.parametrize("num_classes", [2, 5, 7])
def test_classifier_has_an_output_for_each_class(free, num_classes):
    probabilities = classified(free, torch.arange(2 * num_classes) % num_classes, num_classes)
    assert probabilities.shape == (6, num_classes)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(6, dtype=torch.float64))
    assert probabilities.std() > 1e-4


def test_fewer_outputs_are_the_mean_over_all_assignments_of_the_whole_head(free):
    experiment, meta = free
    y = torch.tensor([0, 1, 2, 0, 1])
    objective, start = experiment.objective(4).with_learned_head(meta)
    expected = SupportClassifier(objective, start, num_assignments=5).classify(images(5), y, images(6, seed=1))
    torch.testing.assert_close(classified(free, y, 3), expected)


def test_order_of_the_classes_permutes_the_probabilities(free):
    y, order = torch.arange(7), torch.tensor([3, 6, 0, 1, 5, 2, 4])
    expected = classified(free, y, 7)
    torch.testing.assert_close(classified(free, order[y], 7)[:, order], expected)


def test_more_classes_than_a_learned_head_has_are_refused():
    _, recipe = load_recipe("glyphs-5way-1shot", ())
    experiment = build_without_data(recipe, input_shape=(1, 28, 28), num_outputs=5)
    with pytest.raises(MamlError, match=r"here: expected at most 5 classes, got 7\. The learned head has 5 outputs"):
        support_classifier(experiment, experiment.initial_meta(), 7, num_steps=1, where="here")
