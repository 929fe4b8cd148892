"""Small networks, transforms and five tasks, on which ways of execution are compared."""

import torch

from mamlcli.engine.execution import Execution
from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import cnn, linear, mlp
from mamlcli.engine.objective import MetaObjective, MetaParams, inner_loop_for
from mamlcli.engine.output_layer import start_params, stored_params
from mamlcli.engine.rates import with_rates
from mamlcli.engine.transforms import KFO, Identity, Selected, transforms_by_name
from tests.helpers.numerics import DOUBLE, classification_episode, meta_gradient, perturbed, relative_error

WAYS, NUM_TASKS, LR, NUM_STEPS = 3, 5, 0.2, 2
LOOP = Execution()


TRANSFORMS = {
    **transforms_by_name(),
    "kfo-not-psd": KFO(psd=False),
    "kfo-on-some": Selected(KFO(), ("head.0.weight", "body.0.conv.weight")),
}
# With learned rates; they cannot be adapted in the inner loop.
WITH_RATES = {
    "rates-of-tensors": with_rates(Identity(), "tensor", lr=LR, num_steps=NUM_STEPS),
    "rates-of-steps": with_rates(KFO(), "step", lr=LR, num_steps=NUM_STEPS),
    "rates-of-both": with_rates(Identity(), "tensor-step", lr=LR, num_steps=NUM_STEPS),
    "rates-of-both, kfo-on-some": with_rates(TRANSFORMS["kfo-on-some"], "tensor-step", lr=LR, num_steps=NUM_STEPS),
}
EVERY_TRANSFORM = TRANSFORMS | WITH_RATES

# Of the query losses after each inner step.
STEP_WEIGHTS = (0.3, 0.7)

NETWORKS = {
    "cnn-pool": lambda: cnn((1, 6, 6), WAYS, depth=2, width=3, pool=2, head="flatten"),
    "cnn-stride": lambda: cnn((2, 5, 5), WAYS, depth=2, width=3, stride=2, linear_layers=1),
    "cnn-pool-groups": lambda: cnn((1, 7, 5), WAYS, depth=1, width=4, pool=2, norm="group", linear_layers=1),
    "mlp": lambda: mlp((4,), WAYS, depth=2, width=5),
    "mlp-tanh": lambda: mlp((4,), WAYS, depth=2, width=5, activation="tanh"),
    "mlp-of-images": lambda: mlp((1, 3, 2), WAYS, depth=1, width=5),
    "linear-of-images": lambda: linear((1, 3, 2), WAYS, depth=2, bias=False),
    "linear": lambda: linear((4,), WAYS, depth=2, width=5),
    # More dimensions than support inputs.
    "mlp-of-long-inputs": lambda: mlp((20,), WAYS, depth=2, width=12),
    "linear-of-larger-images": lambda: linear((1, 5, 4), WAYS, depth=2, width=12, bias=False),
}


# Batched kernels sum in another order: 1e-16, grown through the inner steps and the batch norm of few pixels.
SAME_SUMS = 1e-10


def problem(network, algorithm="maml", transform=TRANSFORMS["none"], **settings):
    """Return an objective, meta-parameters away from their start, and five tasks."""
    inner = inner_loop_for(algorithm, network, lr=LR, num_inner_steps=NUM_STEPS, transform=transform, **settings)
    initial = initial_params(network, init="release", seed=0, dtype=DOUBLE)
    model = perturbed(stored_params(network, inner.head, initial), scale=0.1)
    adapted = {name: start_params(network, inner.head, model)[name] for name in inner.adapted}
    xi = perturbed(transform.init(adapted, 0), scale=0.1, key="xi")
    episode = classification_episode(network.input_shape, num_tasks=NUM_TASKS, ways=WAYS)
    return MetaObjective(network, inner), MetaParams(model, xi), episode


PATHS = ("batched", "explicit")


def assert_same_meta_gradient(case, *, chunk_sizes, paths=PATHS, step_weights=None):
    expected = meta_gradient(*case, LOOP, step_weights)
    assert torch.isfinite(expected.outer_loss).all()
    for execution in (Execution(path, chunk) for path in paths for chunk in chunk_sizes):
        found = meta_gradient(*case, execution, step_weights)
        assert relative_error(found.gradients, expected.gradients) < SAME_SUMS, execution
        assert torch.allclose(found.outer_loss, expected.outer_loss, rtol=SAME_SUMS, atol=0)
        assert torch.equal(found.accuracy.nan_to_num(-1), expected.accuracy.nan_to_num(-1))


class Doubled(torch.nn.Module):
    def forward(self, x):
        return 2 * x
