"""Gradient transforms: what each is, where it starts, and derivatives through it."""

import pytest
import torch
from torch.autograd import grad

from mamlcli.common import names
from mamlcli.engine.execution import Execution
from mamlcli.engine.initial import initial_params
from mamlcli.engine.inner_loop import adapt
from mamlcli.engine.networks import apply_network, cnn, linear, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams, example_loss, inner_loop_for
from mamlcli.engine.sizes import count_parameters
from mamlcli.engine.transforms import (
    KFO,
    KFOMLP,
    Dense,
    Identity,
    MetaCurvature,
    MetaSGD,
    Selected,
    is_linear,
    transforms_by_name,
)
from tests.helpers.numerics import (
    DOUBLE,
    classification_episode,
    directional_error,
    leaves,
    meta_gradient,
    normal,
    perturbed,
    regression_episode,
    relative_error,
)

TRANSFORMS = {name: transform for name, transform in transforms_by_name().items() if name != "none"} | {
    "kfo-not-psd": KFO(psd=False),
    "kfo-mlp-wide": KFOMLP(num_hidden=1, hidden_width=6),
}
EVERY_TRANSFORM = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)

# One gradient of every kind of tensor.
SHAPES = {"conv.weight": (3, 2, 3, 3), "linear.weight": (4, 5), "norm.bias": (6,)}


def gradients_of_every_kind():
    return {name: normal(*shape, key=name) for name, shape in SHAPES.items()}


def random_xi(transform, params, scale=0.3):
    """Return meta-parameters away from the identity."""
    return perturbed(transform.init(params, 0), scale=scale, key="xi")


# What each transform is


def test_every_name_of_a_recipe_is_a_transform():
    assert list(transforms_by_name()) == list(names.TRANSFORMS)


def test_keys_of_kfo_mlp_reach_it():
    transform = transforms_by_name(hidden_layers=1, hidden_width=6)["kfo-mlp"]
    assert transform == KFOMLP(num_hidden=1, hidden_width=6)


@EVERY_TRANSFORM
def test_a_transform_is_linear_where_it_says_so(transform):
    gradients = gradients_of_every_kind()
    others = {name: normal(*shape, key=f"{name} again") for name, shape in SHAPES.items()}
    xi = random_xi(transform, gradients)
    of_sum = transform.apply(xi, {name: value + others[name] for name, value in gradients.items()})
    sums = [transform.apply(xi, part) for part in (gradients, others)]
    # Sums of at most 36 terms in another order: rounding alone.
    is_sum = all(torch.allclose(of_sum[name], sums[0][name] + sums[1][name], rtol=0, atol=1e-11) for name in gradients)
    assert is_sum == is_linear(transform) == is_linear(Selected(transform, tuple(SHAPES)))


@EVERY_TRANSFORM
def test_transform_starts_as_the_identity(transform):
    gradients = gradients_of_every_kind()
    updates = transform.apply(transform.init(gradients, 0), gradients)
    # Products with ones, zeros and identity matrices are exact in floating point.
    assert all(torch.equal(updates[name], value) for name, value in gradients.items())
    assert list(updates) == list(gradients)


@EVERY_TRANSFORM
def test_transform_with_other_meta_parameters_is_not_the_identity(transform):
    gradients = gradients_of_every_kind()
    updates = transform.apply(random_xi(transform, gradients), gradients)
    for name, value in gradients.items():
        assert updates[name].shape == value.shape
        assert not torch.allclose(updates[name], value, rtol=1e-2)


@EVERY_TRANSFORM
def test_meta_parameters_are_named_after_their_parameter(transform):
    gradients = gradients_of_every_kind()
    xi = transform.init(gradients, 0)
    assert {name.split("/")[0] for name in xi} == set(gradients)
    assert all(value.dtype == DOUBLE for value in xi.values())


def test_identity_has_no_meta_parameters():
    gradients = gradients_of_every_kind()
    assert Identity().init(gradients, 0) == {}
    assert Identity().apply({}, gradients) == gradients


def test_meta_sgd_scales_every_entry():
    gradients = gradients_of_every_kind()
    xi = random_xi(MetaSGD(), gradients)
    updates = MetaSGD().apply(xi, gradients)
    for name, value in gradients.items():
        assert torch.equal(updates[name], xi[f"{name}/scale"] * value)


def kronecker_rows(name, shape):
    """Return how a tensor of this shape is cut into matrices: (number of matrices, rows, columns)."""
    return {"conv.weight": (3, 2, 9), "linear.weight": (1, 4, 5), "norm.bias": (1, 6, 1)}[name]


@pytest.mark.parametrize("psd", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_kfo_update_is_a_kronecker_product_times_the_vector(name, psd):
    transform, gradient = KFO(psd=psd), gradients_of_every_kind()[name]
    xi = random_xi(transform, {name: gradient})
    left, right = xi[f"{name}/left"], xi[f"{name}/right"]
    if psd:
        left, right = left.T @ left, right.T @ right
    # vec by rows, as torch flattens: vec(L G R) = (L kron R^T) vec(G); the matrices of a convolution weight
    # share L and R, which makes a block diagonal: I kron L kron R^T.
    num, rows, columns = kronecker_rows(name, gradient.shape)
    assert left.shape == (rows, rows)
    assert right.shape == (columns, columns)
    operator = torch.kron(torch.eye(num, dtype=DOUBLE), torch.kron(left, right.T.contiguous()))
    expected = (operator @ gradient.flatten()).reshape(gradient.shape)
    # Sums of at most 45 terms in another order: rounding alone.
    assert torch.allclose(transform.apply(xi, {name: gradient})[name], expected, rtol=0, atol=1e-13)


def test_kfo_psd_factors_have_no_negative_eigenvalue():
    gradients = gradients_of_every_kind()
    xi = random_xi(KFO(), gradients, scale=2.0)
    for name in gradients:
        for factor in KFO().factors(xi, name):
            # Each entry is a sum of at most 9 products, and so is its mirror image, perhaps in another order: they
            # differ by 9 roundings (1e-16) of products no larger than the largest entry, which is on the diagonal.
            assert torch.allclose(factor, factor.T, rtol=0, atol=1e-14 * float(factor.abs().max()))
            # A^T A in exact arithmetic has none; rounding moves one by 1e-16 times the largest.
            values = torch.linalg.eigvalsh(factor)
            assert values.min() >= -1e-14 * values.max()


def test_kfo_update_descends_where_it_is_psd():
    # <G, L G R> = |A G B^T|^2 >= 0.
    gradients = gradients_of_every_kind()
    for key in range(20):
        xi = perturbed(KFO().init(gradients, 0), scale=2.0, key=f"xi {key}")
        updates = KFO().apply(xi, gradients)
        assert all(float((updates[name] * gradients[name]).sum()) > 0 for name in gradients)


def test_kfo_on_the_release_network_has_8420_meta_parameters():
    # CIFAR-FS, depth 2, width 32, 5 ways; a tensor of matrices [n, m] has n^2 + m^2:
    # conv 3 -> 32     matrices [3, 9]     9 + 81      =    90
    # conv 32 -> 32    matrices [32, 9]    1024 + 81   = 1 105
    # six vectors [32] (two conv biases, norm weights and biases) 6 * (1024 + 1) = 6 150
    # head weight [5, 32]  25 + 1024 = 1 049;  head bias [5]  25 + 1 = 26;  head = 1 075
    # together 8 420
    params = initial_params(cnn((3, 32, 32), 5, depth=2, width=32), init="release", seed=0)
    assert count_parameters(KFO().init(params, 0)) == 8_420
    head = {name: value for name, value in params.items() if name.startswith("head.")}
    assert count_parameters(KFO().init(head, 0)) == 1_075


def test_meta_curvature_is_its_mode_products():
    gradients = gradients_of_every_kind()
    xi = random_xi(MetaCurvature(), gradients)
    updates = MetaCurvature().apply(xi, gradients)
    conv, linear_ = gradients["conv.weight"], gradients["linear.weight"]
    out, in_, filter_ = (xi[f"conv.weight/{mode}"] for mode in ("out", "in", "filter"))
    expected = torch.zeros(3, 2, 9, dtype=DOUBLE)
    for i in range(3):
        for j in range(2):
            for k in range(9):
                weights = out[i][:, None, None] * in_[j][None, :, None] * filter_[k][None, None, :]
                expected[i, j, k] = (weights * conv.flatten(2)).sum()
    # Sums of 54 terms in another order.
    assert torch.allclose(updates["conv.weight"].flatten(2), expected, rtol=0, atol=1e-13)
    expected = xi["linear.weight/out"] @ linear_ @ xi["linear.weight/in"].T
    assert torch.allclose(updates["linear.weight"], expected, rtol=0, atol=1e-13)
    assert torch.equal(updates["norm.bias"], xi["norm.bias/scale"] * gradients["norm.bias"])


def test_kfo_mlp_is_its_formula():
    gradient = normal(4, 5, key="G")
    transform = KFOMLP(num_hidden=2, hidden_width=3)
    xi = random_xi(transform, {"w": gradient})
    assert [tuple(xi[f"w/left{i}"].shape) for i in range(3)] == [(3, 4), (3, 3), (4, 3)]
    assert [tuple(xi[f"w/right{i}"].shape) for i in range(3)] == [(5, 5)] * 3
    hidden = (xi["w/left0"] @ gradient @ xi["w/right0"]).clamp(min=0)
    hidden = (xi["w/left1"] @ hidden @ xi["w/right1"]).clamp(min=0)
    expected = gradient + xi["w/left2"] @ hidden @ xi["w/right2"]
    # Three layers of sums of at most 5 terms; a BLAS may add those of one matrix and of several in another order.
    assert torch.allclose(transform.apply(xi, {"w": gradient})["w"], expected, rtol=0, atol=1e-13)


def test_kfo_mlp_scales_with_the_gradient():
    gradients = gradients_of_every_kind()
    xi = random_xi(KFOMLP(), gradients)
    once = KFOMLP().apply(xi, gradients)
    eight_times = KFOMLP().apply(xi, {name: 8 * value for name, value in gradients.items()})
    # A power of two scales every number exactly.
    assert all(torch.equal(eight_times[name], 8 * once[name]) for name in once)


def test_dense_is_a_matrix_product():
    gradients = gradients_of_every_kind()
    xi = random_xi(Dense(), gradients)
    updates = Dense().apply(xi, gradients)
    for name, value in gradients.items():
        expected = torch.einsum("ab,b->a", xi[f"{name}/matrix"], value.flatten())
        assert torch.allclose(updates[name].flatten(), expected, rtol=0, atol=1e-13)


def test_selected_passes_other_parameters_through():
    gradients = gradients_of_every_kind()
    selected = Selected(KFO(), ("linear.weight",))
    xi = random_xi(selected, gradients)
    assert {name.split("/")[0] for name in xi} == {"linear.weight"}
    updates = selected.apply(xi, gradients)
    assert list(updates) == list(gradients)
    assert torch.equal(updates["conv.weight"], gradients["conv.weight"])
    assert torch.equal(updates["norm.bias"], gradients["norm.bias"])
    alone = KFO().apply(xi, {"linear.weight": gradients["linear.weight"]})
    assert torch.equal(updates["linear.weight"], alone["linear.weight"])


# At its start every transform is MAML


@EVERY_TRANSFORM
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_gradient_at_the_start_is_mamls(transform, first_order):
    network = mlp((3,), 2, depth=1, width=4, activation="tanh")
    model = initial_params(network, init="torch", seed=0, dtype=DOUBLE)
    episode = classification_episode((3,), num_tasks=2, ways=2)

    def result(chosen):
        inner = inner_loop_for("maml", network, lr=0.3, num_inner_steps=3, first_order=first_order, transform=chosen)
        meta = MetaParams(model, chosen.init(model, 0))
        return meta_gradient(MetaObjective(network, inner), meta, episode, Execution())

    transformed, plain = result(transform), result(Identity())
    assert torch.equal(transformed.outer_loss, plain.outer_loss)
    for name, value in plain.gradients.items():
        # Backward through a product with the identity matrix is exact, but the sum of the routes through L and
        # R and the gradient itself may come in another order: a few ulps.
        assert torch.allclose(transformed.gradients[name], value, rtol=1e-13, atol=1e-15)


# Derivatives through a transform


def tanh_problem(transform, *, first_order=False, adapt_transform=False, num_inner_steps=3):
    """Return (meta-parameters away from the start, their outer loss, the meta-gradient) on two tasks."""
    network = mlp((3,), 2, depth=1, width=3, activation="tanh")
    inner = inner_loop_for(
        "maml",
        network,
        lr=0.3,
        num_inner_steps=num_inner_steps,
        first_order=first_order,
        transform=transform,
        adapt_transform=adapt_transform,
    )
    model = perturbed(initial_params(network, init="torch", seed=0, dtype=DOUBLE), scale=0.3)
    meta = MetaParams(model, random_xi(transform, model, scale=0.2))
    objective, episode = MetaObjective(network, inner), classification_episode((3,), num_tasks=2, ways=2)

    def outer_loss(flat):
        point = MetaParams.from_flat(flat)
        tasks = [tuple(part[i] for part in episode.data()) for i in range(2)]
        return sum(objective.outer_loss(point.model, point.transform, *task)[0] for task in tasks) / 2

    return meta, outer_loss, meta_gradient(objective, meta, episode, Execution()).gradients


@EVERY_TRANSFORM
@pytest.mark.parametrize("adapt_transform", [False, True])
def test_meta_gradient_matches_finite_differences(transform, adapt_transform):
    meta, outer_loss, gradients = tanh_problem(transform, adapt_transform=adapt_transform)
    everything = meta.flat()
    parts = {
        "theta": {name: value for name, value in everything.items() if name.startswith("model/")},
        "xi": {name: value for name, value in everything.items() if name.startswith("transform/")},
    }
    for part, tensors in parts.items():
        error = directional_error(lambda moved: outer_loss({**everything, **moved}), gradients, tensors, key=part)
        # See directional_error; kfo-mlp has kinks, and these seeds keep clear of them.
        assert error < 1e-7, part


def unrolled_first_order(transform, meta, episode, network, *, lr, num_inner_steps, adapt_transform):
    """Return the first-order meta-gradient written out with torch.autograd.

    phi_{k+1} = phi_k - alpha U_xi(g_k), every g_k a constant; with `adapt_transform`
    xi_k = xi_{k-1} + alpha^2 d/dxi <U_xi(g_{k-1}), g_k>, differentiable in xi.
    """
    total = {name: torch.zeros_like(value) for name, value in meta.flat().items()}
    for i in range(episode.num_tasks):
        support_x, support_y, query_x, query_y = (part[i] for part in episode.data())
        theta, xi = leaves(meta.model), leaves(meta.transform)
        phi, current, last = dict(theta), dict(xi), None
        for _ in range(num_inner_steps):
            point = leaves(phi)
            loss = example_loss(apply_network(network, point, support_x), support_y)
            constant = dict(zip(point, grad(loss, list(point.values())), strict=True))
            if adapt_transform and last is not None:
                moved = transform.apply(current, last)
                agreement = sum((moved[name] * constant[name]).sum() for name in constant)
                steps = grad(agreement, list(current.values()), create_graph=True)
                current = {
                    name: value + lr**2 * step for (name, value), step in zip(current.items(), steps, strict=True)
                }
            updates = transform.apply(current, constant)
            phi = {name: value - lr * updates[name] for name, value in phi.items()}
            last = constant
        loss = example_loss(apply_network(network, phi, query_x), query_y) / episode.num_tasks
        inputs = MetaParams(theta, xi).flat()
        for name, value in zip(inputs, grad(loss, list(inputs.values())), strict=True):
            total[name] += value
    return total


@EVERY_TRANSFORM
@pytest.mark.parametrize("adapt_transform", [False, True])
def test_first_order_meta_gradient_is_its_definition(transform, adapt_transform):
    meta, _, gradients = tanh_problem(transform, first_order=True, adapt_transform=adapt_transform)
    expected = unrolled_first_order(
        transform,
        meta,
        classification_episode((3,), num_tasks=2, ways=2),
        mlp((3,), 2, depth=1, width=3, activation="tanh"),
        lr=0.3,
        num_inner_steps=3,
        adapt_transform=adapt_transform,
    )
    # The same products and sums by other code: rounding alone.
    assert relative_error(gradients, expected) < 1e-10


@EVERY_TRANSFORM
def test_first_order_differs_from_second_order_and_keeps_xi(transform):
    # Guards the two tests above against a first order that is not one.
    _, _, second = tanh_problem(transform)
    _, _, first = tanh_problem(transform, first_order=True)
    assert relative_error(first, second) > 1e-2
    assert all(value.any() for name, value in first.items() if name.startswith("transform/"))


# Adapting the transform itself


@EVERY_TRANSFORM
def test_adapted_transform_takes_a_gradient_step_on_the_support_loss(transform):
    # The meaning, not the formula: the loss L_S(phi_k) depends on the xi that made the last step, and xi takes
    # a step of size alpha down its gradient before the weights move. Only the last step counts: xi_{k-1} is a
    # value of its own, phi_{k-1} and g_{k-1} do not depend on it.
    lr, num_inner_steps = 0.3, 4
    network = mlp((3,), 1, depth=1, width=3, activation="tanh")
    theta = perturbed(initial_params(network, init="torch", seed=0, dtype=DOUBLE), scale=0.3)
    xi = random_xi(transform, theta, scale=0.2)
    support_x, support_y, _, _ = (part[0] for part in regression_episode(3, num_tasks=1).data())

    def support_loss(fast):
        return example_loss(apply_network(network, fast, support_x), support_y)

    phi, current = leaves(theta), leaves(xi)
    loss = support_loss(phi)
    for step in range(num_inner_steps):
        gradients = dict(zip(phi, grad(loss, list(phi.values()), retain_graph=True), strict=True))
        if step:
            slopes = grad(loss, list(current.values()))  # through the updates that made phi, below
            current = leaves(
                {name: value - lr * slope for (name, value), slope in zip(current.items(), slopes, strict=True)}
            )
        updates = transform.apply(current, gradients)
        phi = {name: value.detach() - lr * updates[name] for name, value in phi.items()}
        loss = support_loss(phi)

    inner = inner_loop_for(
        "maml", network, lr=lr, num_inner_steps=num_inner_steps, transform=transform, adapt_transform=True
    )
    found = adapt(support_loss, theta, xi, inner).fast_weights
    # The same products and sums by other code: rounding alone.
    assert relative_error(found, phi) < 1e-11
    # And it matters here, by far more than that: without it the weights go elsewhere.
    fixed = inner_loop_for("maml", network, lr=lr, num_inner_steps=num_inner_steps, transform=transform)
    assert relative_error(adapt(support_loss, theta, xi, fixed).fast_weights, phi) > 1e-6


@EVERY_TRANSFORM
def test_transform_adapts_from_the_second_step_on(transform):
    # After one step there is no difference; xi first moves before the second.
    network = linear((3,), 1)
    theta = initial_params(network, init="torch", seed=0, dtype=DOUBLE)
    support_x, support_y, _, _ = (part[0] for part in regression_episode(3, num_tasks=1).data())

    def fast_weights(num_inner_steps, adapt_transform):
        inner = inner_loop_for(
            "maml",
            network,
            lr=0.3,
            num_inner_steps=num_inner_steps,
            transform=transform,
            adapt_transform=adapt_transform,
        )
        xi = random_xi(transform, theta, scale=0.2)
        return adapt(
            lambda fast: example_loss(apply_network(network, fast, support_x), support_y), theta, xi, inner
        ).fast_weights

    assert relative_error(fast_weights(1, True), fast_weights(1, False)) == 0
    assert relative_error(fast_weights(2, True), fast_weights(2, False)) > 1e-6


def test_adapted_identity_is_the_identity():
    # MAML has no xi to adapt.
    network = linear((3,), 1)
    theta = initial_params(network, init="torch", seed=0, dtype=DOUBLE)
    x, y, _, _ = (part[0] for part in regression_episode(3, num_tasks=1).data())
    found = [
        adapt(
            lambda fast: example_loss(apply_network(network, fast, x), y),
            theta,
            {},
            inner_loop_for("maml", network, lr=0.3, num_inner_steps=3, adapt_transform=choice),
        ).fast_weights
        for choice in (True, False)
    ]
    assert relative_error(*found) == 0
