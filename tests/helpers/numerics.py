"""What the numerical tests share: seeded tensors, small episodes, finite differences, distances."""

import torch

from mamlcli.common.seeds import key_seed
from mamlcli.engine import execution
from mamlcli.tasks.episodes import Episode

DOUBLE = torch.float64

# The tensors here are so small that threads cost far more to wake than they compute.
torch.set_num_threads(1)


def normal(*shape, key="normal"):
    """Return N(0, 1) float64 values that depend on the key alone."""
    generator = torch.Generator().manual_seed(key_seed("tests", key))
    return torch.randn(shape, dtype=DOUBLE, generator=generator)


def perturbed(tensors, *, scale, key="perturbed"):
    """Return tensors by name, each with N(0, scale^2) added: meta-parameters away from their start."""
    return {name: value + scale * normal(*value.shape, key=f"{key}/{name}") for name, value in tensors.items()}


def leaves(tensors):
    """Return detached copies that require grad."""
    return {name: value.detach().clone().requires_grad_(True) for name, value in tensors.items()}


def classification_episode(input_shape, *, num_tasks, ways, shots=2, queries=2, key="episode"):
    """Return tasks of normal inputs, float64; class after class, as few-shot tasks come."""

    def labels(repeats):
        return torch.arange(ways).repeat_interleave(repeats).expand(num_tasks, -1)

    return Episode(
        support_x=normal(num_tasks, ways * shots, *input_shape, key=f"{key}/support"),
        support_y=labels(shots),
        query_x=normal(num_tasks, ways * queries, *input_shape, key=f"{key}/query"),
        query_y=labels(queries),
        truth={},
    )


def regression_episode(dimension, *, num_tasks, shots=5, queries=4, key="regression"):
    """Return tasks of normal inputs and targets, float64."""
    return Episode(
        support_x=normal(num_tasks, shots, dimension, key=f"{key}/support"),
        support_y=normal(num_tasks, shots, 1, key=f"{key}/support_y"),
        query_x=normal(num_tasks, queries, dimension, key=f"{key}/query"),
        query_y=normal(num_tasks, queries, 1, key=f"{key}/query_y"),
        truth={},
    )


def relative_error(found, expected):
    """Return the largest error of any tensor, relative to the largest entry of that tensor.

    A tensor whose entries are below a thousandth of the largest of all (a convolution's bias before a batch norm
    has a gradient of zero, up to rounding) is measured against that thousandth instead.
    """
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    sizes = {name: float(value.detach().abs().max()) for name, value in expected.items()}
    floor = 1e-3 * max(sizes.values())
    assert floor > 0, "nothing to compare with"
    return max(
        float((found[name] - expected[name]).detach().abs().max()) / max(sizes[name], floor) for name in expected
    )


def directional_error(value, gradients, tensors, *, key):
    """Return the error of gradients along one random direction v ~ N(0, I), against central differences.

    It is relative to |gradient|, which is what a slope along v is likely to be; a slope of zero by chance would
    otherwise divide by rounding. The difference (f(x + h v) - f(x - h v)) / 2h is off by h^2 |f'''| / 6 ~ 1e-12
    and by rounding 1e-16 |f| / h ~ 1e-10, for functions and slopes of order one; so callers assert 1e-7.

    Args:
        value: tensors by name -> scalar.
        gradients: of `value` at `tensors`, by name.
        tensors: where.
        key: of the direction.
    """
    step = 1e-6
    direction = {name: normal(*x.shape, key=f"direction/{key}/{name}") for name, x in tensors.items()}
    slope = sum(float((gradients[name] * direction[name]).sum()) for name in tensors)
    size = sum(float(gradients[name].square().sum()) for name in tensors) ** 0.5
    with torch.no_grad():
        ahead, behind = (
            float(value({name: x.detach() + h * direction[name] for name, x in tensors.items()})) for h in (step, -step)
        )
    return abs((ahead - behind) / (2 * step) - slope) / size


def derivative_along(function, inputs, directions):
    """Return how the outputs of a function move when its inputs, all at the same time, move along directions.

    By two backward passes: torch's forward mode warns of its own deprecated parts.
    """
    return torch.autograd.functional.jvp(function, tuple(inputs), tuple(directions))[1]


def meta_gradient(objective, meta, episode, how, step_weights=None):
    """Return the meta-gradient of one run."""
    [found] = execution.meta_gradients(objective, [meta], episode, how, step_weights=step_weights)
    return found


def trajectories(objective, meta, episode, how):
    """Return the scores of one run at every inner step."""
    [found] = execution.trajectories(objective, [meta], episode, how)
    return found
