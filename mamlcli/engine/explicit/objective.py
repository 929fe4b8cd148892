"""Compute the outer loss of a chunk of tasks at once; `TaskNetwork` has the derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from mamlcli.engine.explicit.autograd import Features, GradientStep, LossGradient
from mamlcli.engine.explicit.chunk_problem import (
    QUERY,
    REST,
    SUPPORT,
    ChunkProblem,
    beside,
    each_per_task,
    per_task,
    repeated,
)
from mamlcli.engine.explicit.coverage import NotCoveredError
from mamlcli.engine.explicit.flat_transform import FAST, FlatTransform, flat_scales
from mamlcli.engine.explicit.input_linear import span_inputs, with_input_in_span
from mamlcli.engine.explicit.layout import Layout
from mamlcli.engine.explicit.losses import task_accuracies, task_losses
from mamlcli.engine.explicit.network import TaskNetwork
from mamlcli.engine.inner_loop import Adaptation, Observe, unroll, unroll_plainly
from mamlcli.engine.multi_step import StepWeights, weighted_scores
from mamlcli.engine.networks import Params
from mamlcli.engine.objective import MetaObjective, adapts_head_only
from mamlcli.engine.rates import LearnedRates
from mamlcli.engine.support_statistics import with_statistics_of_first
from mamlcli.engine.transforms import Identity, prepared


class ExplicitObjective:
    """Does what `MetaObjective` does for a chunk of tasks: arguments and results have a leading dimension of tasks.

    The tasks share the meta-parameters, or these have a leading dimension of runs that are trained together: then
    the first run has the first tasks, and so on, as many each.

    Args:
        objective: network and inner loop.
        device_type: "cpu", "cuda" or "mps".
        is_compiled: whether the networks' derivatives go through `torch.compile`.

    Raises:
        NotCoveredError: the network has a layer whose derivatives are not written out.
    """

    def __init__(self, objective: MetaObjective, device_type: str, *, is_compiled: bool = False) -> None:
        network, inner = objective.network, objective.inner
        self.objective, self.device_type = objective, device_type
        self.is_head_only = adapts_head_only(network, inner)
        self.body: TaskNetwork | None = None
        if self.is_head_only:
            self.body = TaskNetwork(network, part="body", first=(), device_type=device_type, is_compiled=is_compiled)
        part = "head" if self.is_head_only else "all"
        self.adapting = TaskNetwork(
            network, part=part, first=inner.adapted, device_type=device_type, is_compiled=is_compiled
        )
        layout, num = self.adapting.layout, len(inner.adapted)
        self.fast_layout = Layout(layout.names[:num], layout.shapes[:num])
        self.rest_layout = Layout(layout.names[num:], layout.shapes[num:])
        # Steps without a transform, of all parameters of the part that adapts, are taken parameter by parameter.
        self.is_plain = isinstance(inner.transform, Identity) and not self.rest_layout.names
        is_fixed = self.body is None or not self.body.layout.names  # what comes before, if anything, only flattens
        is_linear = is_fixed and with_input_in_span(self.adapting.layers) is not None
        self._has_linear_input = self.is_plain and is_linear
        self._is_compiled = is_compiled
        self._by_support: dict[tuple[str, int], TaskNetwork] = {}

    def _problem(self, theta: Params, support_x: Tensor, query_x: Tensor) -> ChunkProblem:
        num_tasks, model = len(support_x), self.objective.start(theta)
        layout = self.adapting.layout
        value = model[layout.names[0]]
        num_runs = len(value) if value.ndim > len(layout.shapes[0]) else None
        if self.is_in_span(support_x.shape[1], query_x.shape[1]):
            return self._problem_in_span(model, support_x, query_x, num_runs)
        if self.body is None:
            support, query = self.adapting.prepared(support_x), self.adapting.prepared(query_x)
        else:
            support, query = self.features(model, support_x, query_x)
        if self.is_plain:
            start, rest = each_per_task(layout, model, num_tasks), support_x.new_empty(num_tasks, 0)
            return ChunkProblem(
                self.adapting, dict(zip(layout.names, start, strict=True)), rest, support, query, num_runs
            )
        flat, rest = (per_task(part, model, num_tasks) for part in (self.fast_layout, self.rest_layout))
        return ChunkProblem(self.adapting, {FAST: flat}, rest, support, query, num_runs)

    def is_in_span(self, num_support: int, num_query: int) -> bool:
        """Return whether the first layer's weights move in the span of so many support inputs: see `input_linear`.

        They do where the layer is linear, its steps are those of the gradient, its inputs have more dimensions, and the
        products of support and query inputs, which are computed once, cost less than a step saves. How many steps there
        are makes no difference, so that more of them begin with the same numbers.
        """
        if not self._has_linear_input or self.objective.inner.support_statistics:
            return False
        num_outputs, num_inputs = self.adapting.layout.shapes[0][0], math.prod(self.objective.network.input_shape)
        return num_inputs > num_support and num_support + num_query <= num_outputs

    def _problem_in_span(self, model: Params, support_x: Tensor, query_x: Tensor, num_runs: int | None) -> ChunkProblem:
        """Return the problem in which the first layer's weights move in the span of the support inputs."""
        num_tasks, layout = len(support_x), self._spanned.layout
        [name, *_] = self._spanned.layers[0].names
        rest = Layout(layout.names[1:], layout.shapes[1:])
        start = {name: support_x.new_zeros(*support_x.shape[:2], model[name].shape[-2])}
        start.update(zip(rest.names, each_per_task(rest, model, num_tasks), strict=True))
        support, query = (span_inputs(model[name], support_x, x) for x in (support_x, query_x))
        return ChunkProblem(self._spanned, start, support_x.new_empty(num_tasks, 0), support, query, num_runs)

    @cached_property
    def _spanned(self) -> TaskNetwork:
        return TaskNetwork(
            self.objective.network,
            part="all",
            first=(),
            device_type=self.device_type,
            is_compiled=self._is_compiled,
            in_span=True,
        )

    def features(self, model: Params, support_x: Tensor, query_x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of support and query sets, [num_tasks, n, num_features] each, without adaptation."""
        inner, num_support = self.objective.inner, support_x.shape[1]
        if not (inner.joint_features or inner.support_statistics):
            return self._features(model, support_x), self._features(model, query_x)
        both = torch.cat([support_x, query_x], dim=1)
        if inner.joint_features:
            features = self._features(model, both)
            return features[:, :num_support], features[:, num_support:]
        by_support = self._normalised_by_support("body", num_support)
        return self._features(model, support_x), self._features(model, both, by_support)[:, num_support:]

    def _normalised_by_support(self, part: str, num_support: int) -> TaskNetwork:
        """Return the network, or its body, with batch norms that use the support set's mean and variance.

        The support set is the first `num_support` images of a batch. The network is for outputs only, without
        derivatives. It is made once for each size of support set, not for each chunk of tasks.

        Args:
            part: "all" or "body".
            num_support: images of a support set.
        """
        key = part, num_support
        if key not in self._by_support:
            network = with_statistics_of_first(self.objective.network, num_support)
            first = () if part == "body" else self.objective.inner.adapted
            self._by_support[key] = TaskNetwork(network, part=part, first=first, device_type=self.device_type)
        return self._by_support[key]

    @cached_property
    def _body(self) -> TaskNetwork:
        """The body of the network, whether or not it adapts."""
        network, device_type = self.objective.network, self.device_type
        return self.body or TaskNetwork(network, part="body", first=(), device_type=device_type)

    def _features(self, model: Params, x: Tensor, body: TaskNetwork | None = None) -> Tensor:
        body = body or self._body
        if not body.layout.names:  # it only flattens its input
            return body.outputs([], body.prepared(x))
        features: Tensor = Features.apply(body, body.prepared(x), *each_per_task(body.layout, model, len(x)))
        return features

    def _query_outputs(
        self, problem: ChunkProblem, support_x: Tensor, query_x: Tensor
    ) -> Callable[[list[Tensor]], Tensor]:
        """Return a function of the parameters that gives the outputs of the query sets; no derivative is kept."""
        if self.body is not None or not self.objective.inner.support_statistics:
            return lambda values: problem.network.outputs(values, problem.query)
        num_support = support_x.shape[1]
        network = self._normalised_by_support("all", num_support)
        both = network.prepared(torch.cat([support_x, query_x], dim=1))
        return lambda values: network.outputs(values, both)[:, num_support:]

    def _adapt(
        self,
        problem: ChunkProblem,
        xi: Params,
        support_y: Tensor,
        observe: Observe | None = None,
        *,
        observes_start: bool = True,
    ) -> Adaptation:
        inner = self.objective.inner
        if self.is_plain:
            return self._adapt_plainly(problem, support_y, observe, observes_start=observes_start)
        (num_tasks, num_adapted), num_runs = problem.start[FAST].shape, problem.num_runs
        of_names, scales = inner.transform, dict[str, Tensor]()
        if isinstance(of_names, LearnedRates):
            rates, xi = of_names.split(xi)
            scales, of_names = flat_scales(of_names, rates, self.fast_layout), of_names.transform
        if not inner.adapt_transform:
            of_names, xi = prepared(of_names, xi)
        else:
            xi = {name: repeated(value, num_tasks, num_runs) for name, value in xi.items()}

        def gradient(fast: Params, context: Params) -> Params:
            flat = beside(fast[FAST], context[REST])
            with torch.set_grad_enabled(torch.is_grad_enabled() and not inner.first_order):
                gradients: Tensor = LossGradient.apply(problem.network, flat, context[SUPPORT], support_y)
            return {FAST: gradients[:, :num_adapted] if problem.rest.shape[1] else gradients}

        shared_by = None if inner.adapt_transform else num_runs
        transform = FlatTransform(of_names, self.fast_layout, inner.adapt_transform, shared_by, len(scales))
        return unroll(
            gradient,
            problem.start,
            {**xi, **scales},
            replace(inner, adapted=(FAST,), transform=transform),
            context=problem.context,
            observe=observe,
            observes_start=observes_start,
        )

    def _adapt_plainly(
        self, problem: ChunkProblem, support_y: Tensor, observe: Observe | None, *, observes_start: bool
    ) -> Adaptation:
        inner = self.objective.inner

        def step(fast: Params, context: Params) -> Params:
            values: tuple[Tensor, ...] = GradientStep.apply(
                problem.network, context[SUPPORT], support_y, inner.lr, inner.first_order, *fast.values()
            )
            return dict(zip(fast, values, strict=True))

        return unroll_plainly(
            step,
            problem.start,
            inner,
            context=problem.context,
            observe=observe,
            observes_start=observes_start,
        )

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
        """Return (outer loss, query accuracy at phi_K), [num_tasks] each; the first is differentiable, once."""
        assert not self.objective.inner.support_statistics, "they are for scores alone"
        problem = self._problem(model, support_x, query_x)

        def scores(fast: Params, context: Params) -> tuple[Tensor, Tensor]:
            outputs: Tensor = Features.apply(problem.network, context[QUERY], *problem.values(fast, context))
            return task_losses(outputs, query_y), task_accuracies(outputs.detach(), query_y)

        if step_weights is None:
            return scores(self._adapt(problem, xi, support_y).fast_weights, problem.context)
        observed = self._adapt(
            problem, xi, support_y, lambda *at: torch.stack(scores(*at)), observes_start=False
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
        """Return the scores at phi_0, ..., phi_K, [num_tasks, num_inner_steps + 1, 4], as `MetaObjective` does."""
        problem = self._problem(model, support_x, query_x)
        of_query = self._query_outputs(problem, support_x, query_x)

        def scores(fast: Params, context: Params) -> Tensor:
            values = problem.values(fast, context)
            columns = []
            for outputs, y in (
                (problem.network.outputs(values, context[SUPPORT]), support_y),
                (of_query(values), query_y),
            ):
                columns += [task_losses(outputs, y), task_accuracies(outputs, y)]
            return torch.stack(columns, dim=1)

        return torch.stack(self._adapt(problem, xi, support_y, scores).observations, dim=1)


@lru_cache(maxsize=16)
def explicit_objective(
    objective: MetaObjective, device_type: str, *, is_compiled: bool = False
) -> ExplicitObjective | None:
    """Return the explicit form of an objective, or None where its network is not covered."""
    if not objective.network.is_split:  # a module that was given has no layers that are known
        return None
    try:
        return ExplicitObjective(objective, device_type, is_compiled=is_compiled)
    except NotCoveredError:
        return None
