"""Operators on the collapsed head of image networks: finite steps, closed forms, invariances."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import grad

from mamlcli.common.errors import RunError
from mamlcli.engine.evaluation import adapted_params
from mamlcli.engine.linear_stack import collapsed_network, collapsed_params
from mamlcli.engine.networks import apply_network
from mamlcli.engine.objective import example_loss
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.layers import image_operators
from mamlcli.studies.layers.image_operators import HeadOperator, compare, head_operator
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.training.trained import open_trained
from tests.helpers.numerics import normal
from tests.helpers.running import TINY_IMAGES, train_tiny

STACK, KFO_RUN = "model.linear_layers=2", "inner.transform.name=kfo"


def image_run(path, *overrides):
    keys = ("tasks.shots=1", *TINY_IMAGES, "execution.dtype=float64", "outer.lr=0.05", "outer.iterations=4")
    return train_tiny(path, "glyphs-5way-1shot", *keys, *overrides)


def joined(params):
    return torch.cat([params["head.0.weight"], params["head.0.bias"].unsqueeze(-1)], dim=1)


@pytest.mark.parametrize(
    "changes",
    [
        (STACK,),
        (KFO_RUN,),
        (STACK, "inner.algorithm=anil"),
        (KFO_RUN, "inner.transform.parameters=[head.0.weight]"),
        (KFO_RUN, "inner.algorithm=anil"),
    ],
)
def test_the_operator_is_that_of_one_small_step_of_the_inner_loop(tmp_path, with_glyphs, changes):
    run = image_run(tmp_path / "run", *changes)
    found = torch.from_numpy(head_operator(run).matrix)
    trained = open_trained(run, run.recipe, splits=("test",))
    objective, meta = trained.experiment.objective(1), trained.meta
    # Errors are of the order of alpha, 1e-7 of the movement, and of rounding, 1e-16 / 1e-7 of it.
    alpha = 1e-7
    objective = replace(objective, inner=replace(objective.inner, lr=alpha))
    episode = sample_tasks(trained.experiment.distributions["test"], seed=0, split="test", iteration=0, indices=[0])
    x, y, query_x, _ = (part[0] for part in episode.data())
    network = objective.network
    start = collapsed_params(network, meta.model)
    end = collapsed_params(network, adapted_params(objective, meta.model, meta.transform, x, y, query_x))
    gradient = grad(lambda p: example_loss(apply_network(collapsed_network(network), p, x), y))(start)
    moved, direction = joined(end) - joined(start), joined(gradient)
    predicted = -alpha * (found @ direction.flatten()).reshape(direction.shape)
    torch.testing.assert_close(moved, predicted, rtol=1e-4, atol=1e-5 * alpha * float(direction.abs().max()))


def test_it_is_kept_with_the_run_and_comes_back(tmp_path, with_glyphs):
    run = image_run(tmp_path / "run", STACK)
    first = head_operator(run)
    value = json.loads((run.path / "head_operator.json").read_text())
    assert (value["name"], value["seed"]) == ("2 linear layers", 0)
    assert value["spectrum"] == first.spectrum.tolist()
    np.testing.assert_array_equal(head_operator(RunDirectory(run.path)).matrix, first.matrix)
    (run.path / "head_operator.json").write_text('{"name": "2 linear')  # damaged: written again
    np.testing.assert_array_equal(head_operator(run).matrix, first.matrix)
    assert json.loads((run.path / "head_operator.json").read_text()) == value


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": "kfo", "seed": 0, "terms": [1]}'])
def test_a_damaged_file_is_written_again(tmp_path, with_glyphs, text):
    run = image_run(tmp_path / "run", STACK)
    first = head_operator(run)
    (run.path / "head_operator.json").write_text(text)
    np.testing.assert_array_equal(head_operator(run).matrix, first.matrix)
    assert json.loads((run.path / "head_operator.json").read_text())["name"] == "2 linear layers"


def test_plain_gradients_are_the_identity(tmp_path, with_glyphs):
    found = head_operator(image_run(tmp_path / "run"))
    assert found.name == "0 linear layers"
    np.testing.assert_allclose(found.matrix, np.eye(len(found.matrix)))
    assert found.distance_to_identity == pytest.approx(0.0, abs=1e-7)
    assert found.effective_rank == pytest.approx(len(found.matrix))


def operator(*terms):
    return HeadOperator("kfo", 0, tuple((left.numpy(), right.numpy()) for left, right in terms))


def gram(size, key):
    factor = normal(size, size, key=key)
    return factor.T @ factor


def test_its_numbers_are_those_of_the_matrix():
    found = operator((torch.diag(torch.tensor([3.0, 0.0])).double(), torch.eye(2).double()))
    # Eigenvalues 3, 3, 0, 0: scaled to 2, 2, 0, 0; c = 1/3 leaves 2 of 4 entries of I.
    np.testing.assert_allclose(found.spectrum, [2, 2, 0, 0])
    assert found.distance_to_identity == pytest.approx(np.sqrt(0.5))
    assert found.effective_rank == pytest.approx(2.0)


def test_similarity_knows_neither_scale_nor_in_its_spectra_the_basis():
    left, right = gram(2, "left"), gram(4, "right")
    turn, _ = torch.linalg.qr(normal(4, 4, key="turn"))
    same = compare(operator((left, right)), operator((7.0 * left, right)))
    assert (same.cosine, same.cosine_of_spectra) == pytest.approx((1.0, 1.0))
    turned = compare(operator((left, right)), operator((left, turn @ right @ turn.T)))
    assert turned.cosine < 0.99
    assert turned.cosine_of_spectra == pytest.approx(1.0)


def test_no_basis_makes_the_matrices_more_alike_than_their_spectra():
    pairs = [
        (operator((gram(2, f"a{i}"), gram(3, f"b{i}"))), operator((gram(2, f"c{i}"), gram(3, f"d{i}"))))
        for i in range(9)
    ]
    for similarity in (compare(*pair) for pair in pairs):
        assert similarity.cosine <= similarity.cosine_of_spectra + 1e-12


@pytest.mark.parametrize("changes", [(STACK, KFO_RUN), ("inner.transform.name=meta-sgd",)])
def test_what_is_neither_layers_nor_linear_kfo_is_refused(tmp_path, with_glyphs, changes):
    with pytest.raises(RunError, match="linear KFO"):
        head_operator(image_run(tmp_path / "run", *changes))


def test_a_head_that_is_too_large_has_none(tmp_path, with_glyphs, monkeypatch):
    monkeypatch.setattr(image_operators, "MAX_OPERATOR_SIZE", 19)  # 5 outputs x (3 features + bias) = 20
    assert head_operator(image_run(tmp_path / "run", STACK)) is None
