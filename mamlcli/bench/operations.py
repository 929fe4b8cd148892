"""This module counts the nominal operations of what `mamlcli bench` times."""

from __future__ import annotations

from mamlcli.bench.cases import EVALUATION, Case, experiment_of
from mamlcli.engine.networks import Network
from mamlcli.engine.objective import adapts_head_only
from mamlcli.engine.sizes import forward_flops

# In units of a forward pass. An inner step: forward 1, gradient 2, and in the outer backward pass the derivative of
# the forward 2 and of the gradient 4, since each of its two products has two factors. The query: forward 1, gradient 2.
STEP_FORWARDS, QUERY_FORWARDS = 9, 3

# An inner step without an outer backward pass.
_PLAIN_STEP_FORWARDS = 3


def meta_gradient_flops(network: Network, *, num_support: int, num_query: int, num_steps: int, num_tasks: int) -> int:
    """Return the operations of one exact second-order meta-gradient that keeps its graph.

    num_tasks * forward * (9 * num_steps * num_support + 3 * num_query)

    The convolutions and linear layers alone are counted, as if the first layer, too, needed the gradient of its
    input; norms, non-linearities, transforms and the updates are left out. The count is nominal: an implementation
    that saves or repeats work is still measured by it.
    """
    return num_tasks * forward_flops(network) * (STEP_FORWARDS * num_steps * num_support + QUERY_FORWARDS * num_query)


def head_only_flops(network: Network, *, num_support: int, num_query: int, num_steps: int, num_tasks: int) -> int:
    """Return the operations of a meta-gradient whose inner loop moves the head alone.

    num_tasks * (3 * body * (num_support + num_query) + head * (9 * num_steps * num_support + 3 * num_query))
    """
    params = dict(network.named_parameters())
    of_head = sum(2 * params[name].numel() for name in network.head_parameter_names() if params[name].ndim == 2)
    of_features = QUERY_FORWARDS * (forward_flops(network) - of_head) * (num_support + num_query)
    return num_tasks * (of_features + of_head * (STEP_FORWARDS * num_steps * num_support + QUERY_FORWARDS * num_query))


def evaluation_flops(network: Network, *, num_support: int, num_query: int, num_steps: int, num_tasks: int) -> int:
    """Return the operations of adapting to tasks and scoring support and query sets at every inner step, 0 included.

    num_tasks * forward * ((3 * num_steps + 1) * num_support + (num_steps + 1) * num_query)
    """
    of_support = (_PLAIN_STEP_FORWARDS * num_steps + 1) * num_support
    return num_tasks * forward_flops(network) * (of_support + (num_steps + 1) * num_query)


def case_flops(case: Case) -> int:
    """Return the nominal operations of what is timed of a case."""
    experiment = experiment_of(case, device="cpu")
    count = head_only_flops if adapts_head_only(experiment.network, experiment.objective().inner) else None
    count = evaluation_flops if case.kind == EVALUATION else count or meta_gradient_flops
    return count(
        experiment.network,
        num_support=case.num_support,
        num_query=case.num_query,
        num_steps=experiment.recipe.inner.steps,
        num_tasks=case.tasks,
    )
