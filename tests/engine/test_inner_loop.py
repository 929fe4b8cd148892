"""The inner loop against closed forms.

Support sets are made so that their second moment (1/d) X^T X is exactly the wanted covariance: this is the limit
of infinitely many points, without the wait.
"""

import pytest
import torch
from torch.autograd import grad

from mamlcli.engine.initial import initial_params
from mamlcli.engine.inner_loop import InnerLoop, adapt
from mamlcli.engine.networks import apply_network, linear
from mamlcli.engine.objective import example_loss
from mamlcli.engine.transforms import KFO, Dense, MetaSGD
from mamlcli.tasks.closed_forms import optimal_preconditioner, shallow_loss_infinite_support
from tests.helpers.numerics import DOUBLE, leaves, normal, relative_error

# Closed forms and the loop do the same sums of a few terms in another order: rounding alone, 1e-15 or so; the
# bound leaves room for a few steps of error growth.
EXACT = 1e-12


def covariance(size, key, low=0.3):
    """Return a positive definite matrix with eigenvalues from `low` to about 1."""
    basis = torch.linalg.qr(normal(size, size, key=key)).Q
    return basis @ torch.diag(torch.linspace(low, 1.0, size, dtype=DOUBLE)) @ basis.T


def exact_inputs(second_moment):
    """Return d points x with (1/d) sum x x^T exactly the given matrix: the rows of sqrt(d) C^T, S = C C^T."""
    size = len(second_moment)
    return size**0.5 * torch.linalg.cholesky(second_moment).T


def close(found, expected, tolerance=EXACT):
    return float((found - expected).detach().abs().max()) <= tolerance * float(expected.detach().abs().max())


def regression_problem(network, second_moment, target):
    """Return the support loss (as a function of the fast weights) of y = t.x on inputs of a second moment."""
    x = exact_inputs(second_moment)
    y = (x @ target).unsqueeze(-1)
    return lambda fast: example_loss(apply_network(network, fast, x), y)


# Section 3.1: a shallow linear model


@pytest.mark.parametrize("num_inner_steps", [1, 2, 5])
def test_shallow_linear_regression_contracts_towards_the_task(num_inner_steps):
    # g = Sx (phi - t), so phi_{k+1} - t = (I - alpha Sx)(phi_k - t), and phi_K = t + (I - alpha Sx)^K (theta - t).
    size, lr = 4, 0.7
    second_moment, target, theta = covariance(size, "Sx"), normal(size, key="t"), normal(size, key="theta")
    network = linear((size,), 1, bias=False)
    found = adapt(
        regression_problem(network, second_moment, target),
        {"head.0.weight": theta.reshape(1, size)},
        {},
        InnerLoop(("head.0.weight",), lr, num_inner_steps),
    ).fast_weights["head.0.weight"]
    contraction = torch.linalg.matrix_power(torch.eye(size, dtype=DOUBLE) - lr * second_moment, num_inner_steps)
    assert close(found.flatten(), target + contraction @ (theta - target))


def mean_outer_loss(theta, second_moment, targets, lr, num_inner_steps):
    """Return the outer loss at fast weights, averaged over tasks; query inputs have the same second moment."""
    network = linear((len(second_moment),), 1, bias=False)
    losses = []
    for target in targets:
        loss = regression_problem(network, second_moment, target)
        result = adapt(loss, {"head.0.weight": theta}, {}, InnerLoop(("head.0.weight",), lr, num_inner_steps))
        losses.append(loss(result.fast_weights))
    return torch.stack(losses).mean()


def tasks_with_second_moment(second_moment):
    """Return tasks of mean zero and exactly the given second moment: plus and minus the rows of `exact_inputs`."""
    rows = exact_inputs(second_moment)
    return torch.cat([rows, -rows])


@pytest.mark.parametrize("num_inner_steps", [1, 3])
def test_shallow_outer_loss_is_the_closed_form_and_zero_is_the_best_start(num_inner_steps):
    # L_Q = 1/2 (phi - t)^T Sx (phi - t) = 1/2 (theta - t)^T P^T Sx P (theta - t); with E[t] = 0 the mean is
    # 1/2 tr(P^T Sx P St) + 1/2 theta^T P^T Sx P theta: least, and flat, at theta = 0.
    size, lr = 3, 0.8
    input_cov, task_cov = covariance(size, "Sx"), covariance(size, "St")
    targets = tasks_with_second_moment(task_cov)
    start = torch.zeros(1, size, dtype=DOUBLE, requires_grad=True)
    loss = mean_outer_loss(start, input_cov, targets, lr, num_inner_steps)
    assert close(loss, shallow_loss_infinite_support(input_cov, task_cov, inner_lr=lr, num_steps=num_inner_steps))
    (slope,) = grad(loss, start)
    assert float(slope.abs().max()) < 1e-14  # a sum of +-0.1s that cancels, over 1e-16 rounding
    theta = normal(1, size, key="theta")
    contraction = torch.linalg.matrix_power(torch.eye(size, dtype=DOUBLE) - lr * input_cov, num_inner_steps)
    moved = contraction @ theta.flatten()
    elsewhere = mean_outer_loss(theta, input_cov, targets, lr, num_inner_steps)
    assert close(elsewhere, loss + 0.5 * moved @ input_cov @ moved)


@pytest.mark.parametrize("num_inner_steps", [1, 4])
def test_scalar_shallow_loss_is_the_closed_form(num_inner_steps):
    # 1/2 (1 - alpha)^{2K} var(t) for var(x) = 1; t = +-1.5.
    one = torch.ones(1, 1, dtype=DOUBLE)
    loss = mean_outer_loss(0 * one, one, torch.tensor([[1.5], [-1.5]], dtype=DOUBLE), 0.4, num_inner_steps)
    assert close(loss, torch.tensor(0.5 * 0.6 ** (2 * num_inner_steps) * 1.5**2, dtype=DOUBLE))


# Section 3.2: one more linear layer


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_second_layer_solves_a_scalar_task_in_one_step(sign):
    # f = a b x, (a, b) = (+-1/sqrt(alpha), 0), var(x) = 1: dL/db = a (a b - t) = -a t, dL/da = b (a b - t) = 0;
    # b' = alpha a t, a b' = alpha a^2 t = t.
    lr, target = 0.05, 1.7
    network = linear((1,), 1, depth=2, bias=False)
    loss = regression_problem(network, torch.ones(1, 1, dtype=DOUBLE), torch.tensor([target], dtype=DOUBLE))
    start = {
        "head.0.weight": torch.full((1, 1), sign / lr**0.5, dtype=DOUBLE),
        "head.1.weight": torch.zeros(1, 1, dtype=DOUBLE),
    }
    found = adapt(loss, start, {}, InnerLoop(tuple(start), lr, 1)).fast_weights
    product = found["head.1.weight"] @ found["head.0.weight"]
    assert float(product) == pytest.approx(target, rel=EXACT)
    assert float(loss(found)) < 1e-25  # the square of 1e-15 relative to the target, and room


def test_second_layer_solves_any_linear_task_in_one_step():
    # f(x) = v.(A x), v = 0, A^T A = (1/alpha) Sx^{-1}: dL/dv = A Sx (A^T v - t) = -A Sx t and dL/dA = 0, so
    # v' = alpha A Sx t, and w' = A^T v' = alpha A^T A Sx t = t.
    size, lr = 4, 0.05
    second_moment, target = covariance(size, "Sx"), normal(size, key="t")
    root = torch.linalg.cholesky(torch.linalg.inv(second_moment) / lr).T  # A = C^T, A^T A = C C^T
    network = linear((size,), 1, depth=2, bias=False)
    loss = regression_problem(network, second_moment, target)
    start = {"head.0.weight": root, "head.1.weight": torch.zeros(1, size, dtype=DOUBLE)}
    found = adapt(loss, start, {}, InnerLoop(tuple(start), lr, 1)).fast_weights
    # The condition number of Sx, 3, multiplies rounding.
    assert close((found["head.1.weight"] @ found["head.0.weight"]).flatten(), target, 1e-12)


def test_dense_transform_solves_the_shallow_task_in_one_step():
    # M = (1/alpha) Sx^{-1}: w' = theta - Sx^{-1} Sx (theta - t) = t from any start.
    size, lr = 4, 0.05
    second_moment, target = covariance(size, "Sx"), normal(size, key="t")
    network = linear((size,), 1, bias=False)
    found = adapt(
        regression_problem(network, second_moment, target),
        {"head.0.weight": normal(1, size, key="theta")},
        {"head.0.weight/matrix": torch.linalg.inv(second_moment) / lr},
        InnerLoop(("head.0.weight",), lr, 1, transform=Dense()),
    ).fast_weights["head.0.weight"]
    assert close(found.flatten(), target)


def test_dense_transform_that_solves_it_is_the_best_preconditioner_of_many_points():
    input_cov, task_cov = covariance(3, "Sx"), covariance(3, "St")
    best = optimal_preconditioner(input_cov, task_cov, shots=float("inf"), noise=0.5)
    assert close(best, torch.linalg.inv(input_cov))


# Section 3.3: any linear stack


def product(stack):
    """Return W_L ... W_1, with the identity for an empty stack."""
    result = stack[0]
    for matrix in stack[1:]:
        result = matrix @ result
    return result


def stack_error(lr):
    """Return how far one step moves a stack of four layers from the first-order formula of the collapsed model."""
    network = linear((3,), 2, depth=4, width=5, bias=False)
    start = initial_params(network, init="torch", seed=0, dtype=DOUBLE)
    x, y = normal(6, 3, key="x"), torch.tensor([0, 1, 1, 0, 1, 0])
    layers = [start[f"head.{i}.weight"] for i in range(4)]
    collapsed = product(layers).requires_grad_(True)
    (slope,) = grad(example_loss(x @ collapsed.T, y), collapsed)  # G = dL/dE
    movement = torch.zeros_like(collapsed)
    for i in range(4):
        above = product([torch.eye(len(layers[i]), dtype=DOUBLE), *layers[i + 1 :]])  # W_L..W_{i+1}
        below = product([torch.eye(3, dtype=DOUBLE), *layers[:i]])  # W_{i-1}..W_1
        movement += above @ above.T @ slope @ below.T @ below
    found = adapt(
        lambda fast: example_loss(apply_network(network, fast, x), y),
        start,
        {},
        InnerLoop(tuple(start), lr, 1),
    ).fast_weights
    expected = collapsed - lr * movement
    error = product([found[f"head.{i}.weight"] for i in range(4)]) - expected
    return float(error.detach().abs().max()), float((lr * movement).detach().abs().max())


def test_linear_stack_moves_its_product_by_the_formula_up_to_second_order():
    # error(alpha) = c alpha^2 (1 + O(alpha)): halving alpha quarters it, up to about alpha itself = 1e-3.
    error, movement = stack_error(1e-3)
    half_error, _ = stack_error(5e-4)
    assert error < 1e-2 * movement
    assert half_error / error == pytest.approx(0.25, rel=5e-3)


# Section 3.4: a three-layer stack is linear KFO


@pytest.mark.parametrize("num_inner_steps", [1, 4])
@pytest.mark.parametrize("psd", [True, False])
def test_middle_layer_of_a_stack_adapts_as_linear_kfo_on_the_collapsed_model(num_inner_steps, psd):
    # E = U W A and dL/dW = U^T G A^T, so if only W moves, E moves by -alpha U U^T G A^T A: KFO with L = U U^T,
    # R = A^T A. No approximation, so it holds for any number of steps and any loss; here cross-entropy.
    # With psd factors the learned tensors are U^T and A: L = (U^T)^T U^T, R = A^T A.
    lr = 0.5
    x, y = normal(6, 3, key="x"), torch.tensor([0, 1, 3, 2, 1, 0])
    deep, shallow = linear((3,), 4, depth=3, width=5, bias=False), linear((3,), 4, bias=False)
    start = {f"head.{i}.weight": normal(*shape, key=f"W{i}") for i, shape in enumerate([(5, 3), (5, 5), (4, 5)])}
    below, middle, above = (start[f"head.{i}.weight"] for i in range(3))
    moved = adapt(
        lambda fast: example_loss(apply_network(deep, {**start, **fast}, x), y),
        start,
        {},
        InnerLoop(("head.1.weight",), lr, num_inner_steps),
    ).fast_weights["head.1.weight"]
    xi = {"left": above.T, "right": below} if psd else {"left": above @ above.T, "right": below.T @ below}
    collapsed = adapt(
        lambda fast: example_loss(apply_network(shallow, fast, x), y),
        {"head.0.weight": above @ middle @ below},
        {f"head.0.weight/{part}": value for part, value in xi.items()},
        InnerLoop(("head.0.weight",), lr, num_inner_steps, transform=KFO(psd=psd)),
    ).fast_weights["head.0.weight"]
    # Products of three 5x5 normal matrices, a hundred times their entries; rounding is still 1e-15 of the result.
    assert close(above @ moved @ below, collapsed, 1e-11)
    assert not torch.allclose(moved, middle, rtol=1e-2)


# Section 3.5: quadratic tasks


def quadratic_task(size=3):
    """Return A, a, B, b of the losses 1/2 (w - a)^T A (w - a) and 1/2 (w - b)^T B (w - b), and theta."""
    return (
        covariance(size, "A"),
        normal(size, key="a"),
        covariance(size, "B"),
        normal(size, key="b"),
        normal(size, key="theta"),
    )


def quadratic(matrix, centre):
    return lambda fast: 0.5 * (fast["w"] - centre) @ matrix @ (fast["w"] - centre)


@pytest.mark.parametrize("num_inner_steps", [0, 1, 2, 6])
@pytest.mark.parametrize("first_order", [False, True])
def test_quadratic_meta_gradient_is_the_closed_form(num_inner_steps, first_order):
    # P = (I - alpha A)^K, phi = a + P (theta - a); d phi/d theta = P, so MAML P^T B (phi - b); FOMAML takes it as
    # the identity: B (phi - b).
    support, a, query, b, start = quadratic_task()
    theta, lr = leaves({"w": start}), 0.6
    phi = adapt(
        quadratic(support, a), theta, {}, InnerLoop(("w",), lr, num_inner_steps, first_order=first_order)
    ).fast_weights
    (found,) = grad(quadratic(query, b)(phi), [theta["w"]])
    contraction = torch.linalg.matrix_power(torch.eye(3, dtype=DOUBLE) - lr * support, num_inner_steps)
    expected_phi = a + contraction @ (start - a)
    outer = query @ (expected_phi - b)
    assert close(phi["w"], expected_phi)
    assert close(found, outer if first_order else contraction.T @ outer)


@pytest.mark.parametrize("first_order", [False, True])
def test_quadratic_meta_sgd_gradient_is_the_closed_form(first_order):
    # One step, phi = theta - alpha s * A (theta - a). d phi_i / d s_i = -alpha [A (theta - a)]_i, so
    # dL_Q/ds_i = -alpha [A (theta - a)]_i [B (phi - b)]_i, in first order too: the derivative through U remains.
    # dL_Q/dtheta = (I - alpha diag(s) A)^T B (phi - b), in first order B (phi - b).
    support, a, query, b, start = quadratic_task()
    scale, lr = 1 + 0.3 * normal(3, key="scale"), 0.6
    theta, xi = leaves({"w": start}), leaves({"w/scale": scale})
    phi = adapt(
        quadratic(support, a),
        theta,
        xi,
        InnerLoop(("w",), lr, 1, transform=MetaSGD(), first_order=first_order),
    ).fast_weights
    found = grad(quadratic(query, b)(phi), [theta["w"], xi["w/scale"]])
    inner_gradient = support @ (start - a)
    expected_phi = start - lr * scale * inner_gradient
    outer = query @ (expected_phi - b)
    jacobian = torch.eye(3, dtype=DOUBLE) - lr * torch.diag(scale) @ support
    assert close(phi["w"], expected_phi)
    assert close(found[0], outer if first_order else jacobian.T @ outer)
    assert close(found[1], -lr * inner_gradient * outer)


def test_second_derivative_of_the_meta_gradient_is_the_closed_form():
    # "Differentiable to any order": the Hessian of the outer loss in theta is P^T B P.
    support, a, query, b, start = quadratic_task()
    lr, num_inner_steps = 0.6, 3

    def outer(weights):
        inner = InnerLoop(("w",), lr, num_inner_steps)
        return quadratic(query, b)(adapt(quadratic(support, a), {"w": weights}, {}, inner).fast_weights)

    contraction = torch.linalg.matrix_power(torch.eye(3, dtype=DOUBLE) - lr * support, num_inner_steps)
    hessian = torch.func.jacrev(torch.func.jacrev(outer))(start)
    assert close(hessian, contraction.T @ query @ contraction)


def test_adaptation_leaves_the_start_and_the_other_parameters_alone():
    support, a, _, _, start = quadratic_task()
    params = {"w": start.clone(), "other": normal(2, key="other")}
    result = adapt(quadratic(support, a), params, {}, InnerLoop(("w",), 0.6, 2))
    assert torch.equal(params["w"], start)
    assert list(result.fast_weights) == ["w"]


def test_observations_are_of_every_step_the_start_included():
    support, a, _, _, start = quadratic_task()
    inner = InnerLoop(("w",), 0.6, 3)
    result = adapt(quadratic(support, a), {"w": start}, {}, inner, observe=lambda fast, _: fast["w"])
    assert len(result.observations) == 4
    assert torch.equal(result.observations[0], start)
    assert torch.equal(result.observations[-1], result.fast_weights["w"])
    shorter = adapt(quadratic(support, a), {"w": start}, {}, InnerLoop(("w",), 0.6, 2))
    assert relative_error({"w": result.observations[2]}, shorter.fast_weights) == 0
