"""Compute the outer loss of one task: adapt to its support set, and score its query set.

MAML, FOMAML, ANIL and BOIL are the same objective with other settings of the inner loop; `inner_loop_for` names them.
An inner update goes from here (`adapt_to`) to `inner_loop`, and from there to a gradient transform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from mamlcli.common.adapted import adapted_names
from mamlcli.engine.inner_loop import Adaptation, InnerLoop, Observe, gradient_of, unroll
from mamlcli.engine.multi_step import StepWeights, weighted_scores
from mamlcli.engine.networks import Network, Params, apply_network
from mamlcli.engine.output_layer import start_params
from mamlcli.engine.support_statistics import with_statistics_of_first
from mamlcli.engine.transforms import GradientTransform, Identity

# What is scored at every inner step.
TRAJECTORY_COLUMNS = ("support_loss", "support_accuracy", "query_loss", "query_accuracy")

# The names of features in the context of a task whose head alone adapts.
_SUPPORT_FEATURES, _QUERY_FEATURES = "features of the support set", "features of the query set"


# Begins the flat names of theta.
THETA = "model/"


@dataclass(frozen=True)
class MetaParams:
    """All tensors that the outer loop updates.

    Attributes:
        model: theta, the initialisation of the network, by parameter name; of an output layer that starts at zero or
            with one row for all classes, what is learned of it (see `output_layer`).
        transform: xi, the transform's meta-parameters, by `<parameter name>/<part>`; empty in MAML.
    """

    model: Params
    transform: Params

    def flat(self) -> Params:
        """Return every tensor under `model/<name>` or `transform/<name>`."""
        return {
            **{f"{THETA}{name}": value for name, value in self.model.items()},
            **{f"transform/{name}": value for name, value in self.transform.items()},
        }

    @classmethod
    def from_flat(cls, tensors: Mapping[str, Tensor]) -> MetaParams:
        """Return the meta-parameters of which `flat` gave `tensors`."""
        parts: dict[str, Params] = {"model": {}, "transform": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = value
        return cls(**parts)


def inner_loop_for(
    algorithm: str,
    network: Network,
    *,
    lr: float,
    num_inner_steps: int,
    first_order: bool = False,
    adapt_patterns: list[str] | None = None,
    transform: GradientTransform | None = None,
    adapt_transform: bool = False,
    joint_features: bool = False,
    recompute: bool = False,
    head: str = "learned",
) -> InnerLoop:
    """Return the inner loop of an algorithm on a network.

    MAML: every parameter moves, exact derivative through the steps. FOMAML: every parameter moves, the derivative
    of phi_K with respect to theta taken as the identity. ANIL: only the head moves. BOIL: only the body moves.

    Args:
        algorithm: "maml", "fomaml", "anil" or "boil".
        network: whose parameters adapt.
        lr: inner learning rate, alpha.
        num_inner_steps: inner steps, K.
        first_order: with "maml" the same as "fomaml"; with "anil" and "boil" their first-order form.
        adapt_patterns: shell patterns of parameter names that adapt, instead of the algorithm's own choice.
        transform: U_xi; identity if None.
        adapt_transform, joint_features, recompute, head: as in `InnerLoop`.

    Raises:
        MamlError: a pattern that matches nothing; with "anil", one that matches outside the head; with "boil", one
            that matches in the head, or a network without a body; joint features where a part of the body adapts;
            an output layer that starts at zero or with one row for all classes, and does not adapt or is all there
            is.

    Source: Finn et al. 2017 (1703.03400), section 2.2 and, for first order, section 5.2; Raghu et al. 2020
        (1909.09157), section 4, for ANIL; Oh et al. 2021, BOIL (2008.08882).
    Differs from the source: the head of ANIL and BOIL here is all linear layers after the last non-linearity.
    """
    adapted = adapted_names(
        algorithm, network.names_by_part(), adapt_patterns, joint_features=joint_features, head=head
    )
    return InnerLoop(
        adapted=adapted,
        lr=lr,
        num_inner_steps=num_inner_steps,
        first_order=first_order or algorithm == "fomaml",
        transform=transform or Identity(),
        adapt_transform=adapt_transform,
        joint_features=joint_features,
        recompute=recompute,
        head=head,
    )


def example_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss: cross-entropy for class indices, half the squared error for real targets.

    Args:
        outputs: [n, ways] or [n, 1], float.
        targets: [n] int64 class indices, or [n, 1] float.
    """
    if targets.dtype == torch.int64:
        return functional.cross_entropy(outputs, targets)
    return 0.5 * (outputs - targets).square().sum(dim=-1).mean()


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the fraction of right classes; NaN for regression (real targets)."""
    if targets.dtype == torch.int64:
        return (outputs.argmax(dim=-1) == targets).to(outputs.dtype).mean()
    return torch.full((), float("nan"), dtype=outputs.dtype, device=outputs.device)


@dataclass(frozen=True)
class TaskProblem:
    """How one task's outputs on support and query depend on its fast weights, and on a context that stays."""

    support: Callable[[Params, Params], Tensor]
    query: Callable[[Params, Params], Tensor]
    context: Params


def adapts_head_only(network: Network, inner: InnerLoop) -> bool:
    """Return whether the inner loop leaves the features as they are."""
    return network.is_split and len(network.body) > 0 and set(inner.adapted) <= set(network.head_parameter_names())


def task_features(
    network: Network, params: Params, inner: InnerLoop, support_x: Tensor, query_x: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the features of one task's support and query set, [n, num_features] each, without adaptation."""
    if inner.joint_features:
        joint = apply_network(network, params, torch.cat([support_x, query_x]), "body")
        return joint[: len(support_x)], joint[len(support_x) :]
    of_query = query_outputs(network, params, inner, support_x, query_x, "body")
    return apply_network(network, params, support_x, "body"), of_query


def task_problem(network: Network, params: Params, inner: InnerLoop, support_x: Tensor, query_x: Tensor) -> TaskProblem:
    """Return how a task's outputs depend on its fast weights.

    Where only the head adapts, the features do not change in the inner loop and are computed once.
    """
    if adapts_head_only(network, inner):
        support_f, query_f = task_features(network, params, inner, support_x, query_x)
        rest = {name: params[name] for name in network.head_parameter_names() if name not in inner.adapted}

        def of_features(key: str) -> Callable[[Params, Params], Tensor]:
            def outputs(fast: Params, context: Params) -> Tensor:
                head = {**fast, **{name: value for name, value in context.items() if name in rest}}
                return apply_network(network, head, context[key], "head")

            return outputs

        context = {**rest, _SUPPORT_FEATURES: support_f, _QUERY_FEATURES: query_f}
        return TaskProblem(of_features(_SUPPORT_FEATURES), of_features(_QUERY_FEATURES), context)
    return TaskProblem(
        lambda fast, context: apply_network(network, {**context, **fast}, support_x),
        lambda fast, context: query_outputs(network, {**context, **fast}, inner, support_x, query_x),
        {name: value for name, value in params.items() if name not in inner.adapted},
    )


def query_outputs(
    network: Network, params: Params, inner: InnerLoop, support_x: Tensor, query_x: Tensor, part: str = "all"
) -> Tensor:
    """Return the outputs of query images, or their features, [num_query, ...].

    Their batch norm takes the statistics of the query set, or with `inner.support_statistics` of the support set.
    """
    if not inner.support_statistics:
        return apply_network(network, params, query_x, part)
    num_support = len(support_x)
    by_support = with_statistics_of_first(network, num_support)
    return apply_network(by_support, params, torch.cat([support_x, query_x]), part)[num_support:]


def adapt_to(
    problem: TaskProblem,
    support_y: Tensor,
    params: Params,
    xi: Params,
    inner: InnerLoop,
    observe: Observe | None = None,
    *,
    observes_start: bool = True,
) -> Adaptation:
    """Run the inner loop on one task's support loss."""
    gradient = gradient_of(
        lambda fast, context: example_loss(problem.support(fast, context), support_y), first_order=inner.first_order
    )
    return unroll(gradient, params, xi, inner, context=problem.context, observe=observe, observes_start=observes_start)


@dataclass(frozen=True)
class MetaObjective:
    """The outer loss of one task as a function of the meta-parameters; every path of execution calls this.

    The arguments of both methods are one task's data, without a task dimension: support_x
    [num_support, *input_shape] float, support_y [num_support] int64 or [num_support, 1] float, and the query
    set likewise; `model` and `xi` are theta and the transform's meta-parameters, by name.

    Attributes:
        network: the architecture.
        inner: the inner loop.
    """

    network: Network
    inner: InnerLoop

    def start(self, model: Params) -> Params:
        """Return phi_0, the network's parameters before adaptation, from theta as it is learned."""
        return start_params(self.network, self.inner.head, model)

    def with_learned_head(self, meta: MetaParams) -> tuple[MetaObjective, MetaParams]:
        """Return an equivalent objective with a learned output layer, and meta-parameters with all of phi_0 as theta.

        With `inner.head` zero or shared, theta lacks the output layer, or has one row of it; the result's theta has
        every parameter of the network, with the value that a task starts from. Do not train it: the outer loop would
        change what `inner.head` fixes.
        """
        objective = replace(self, inner=replace(self.inner, head="learned"))
        return objective, MetaParams(self.start(meta.model), meta.transform)

    def outer_loss(
        self,
        model: Params,
        xi: Params,
        support_x: Tensor,
        support_y: Tensor,
        query_x: Tensor,
        query_y: Tensor,
        *,
        step_weights: StepWeights | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (outer loss, accuracy on the query set at phi_K), scalars; the loss is differentiable.

        The loss is L_Q(phi_K), or with `step_weights` the sum of w_k L_Q(phi_k).
        """
        model = self.start(model)
        problem = task_problem(self.network, model, self.inner, support_x, query_x)

        def scores(fast: Params, context: Params) -> tuple[Tensor, Tensor]:
            outputs = problem.query(fast, context)
            return example_loss(outputs, query_y), accuracy(outputs.detach(), query_y)

        if step_weights is None:
            fast = adapt_to(problem, support_y, model, xi, self.inner).fast_weights
            return scores(fast, problem.context)
        observed = adapt_to(
            problem, support_y, model, xi, self.inner, lambda *at: torch.stack(scores(*at)), observes_start=False
        ).observations
        return weighted_scores(step_weights, observed)

    def trajectory(
        self,
        model: Params,
        xi: Params,
        support_x: Tensor,
        support_y: Tensor,
        query_x: Tensor,
        query_y: Tensor,
    ) -> Tensor:
        """Return the scores at phi_0, ..., phi_K, [num_inner_steps + 1, 4].

        Columns: support loss, support accuracy, query loss, query accuracy (as in `TRAJECTORY_COLUMNS`). Call
        it under `torch.no_grad()`: nothing here needs a graph, and then none is kept.
        """
        model = self.start(model)
        problem = task_problem(self.network, model, self.inner, support_x, query_x)

        def scores(fast: Params, context: Params) -> Tensor:
            support, query = problem.support(fast, context), problem.query(fast, context)
            return torch.stack(
                [
                    example_loss(support, support_y),
                    accuracy(support, support_y),
                    example_loss(query, query_y),
                    accuracy(query, query_y),
                ]
            )

        adaptation = adapt_to(problem, support_y, model, xi, self.inner, observe=scores)
        return torch.stack(adaptation.observations)

    @torch.no_grad()
    def fast_weights(self, model: Params, xi: Params, support_x: Tensor, support_y: Tensor) -> Params:
        """Return phi_K, the adapted parameters by name, without a graph.

        With `inner.joint_features`, too, the support set passes the body by itself: there is no query set here.
        """
        model = self.start(model)
        inner = replace(self.inner, first_order=True, joint_features=False)
        problem = task_problem(self.network, model, inner, support_x, support_x)
        return adapt_to(problem, support_y, model, xi, inner).fast_weights
