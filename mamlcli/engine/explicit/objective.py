"""Compute the outer loss of a chunk of tasks at once; `TaskNetwork` has the derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from mamlcli.engine.explicit.flat_transform import FAST, FlatTransform, flat_scales
from mamlcli.engine.explicit.layout import Layout
from mamlcli.engine.explicit.losses import task_accuracies, task_losses
from mamlcli.engine.explicit.network import Features, LossGradient, NotCoveredError, TaskNetwork
from mamlcli.engine.inner_loop import Adaptation, Observe, unroll
from mamlcli.engine.multi_step import StepWeights, weighted_scores
from mamlcli.engine.networks import Params
from mamlcli.engine.objective import MetaObjective, adapts_head_only
from mamlcli.engine.rates import LearnedRates
from mamlcli.engine.support_statistics import with_statistics_of_first
from mamlcli.engine.transforms import prepared

# The names under which the inner loop carries what the fast weights stand beside.
_REST, _SUPPORT, _QUERY = "other parameters", "support inputs", "query inputs"


@dataclass(frozen=True)
class _ChunkProblem:
    """What a chunk's outputs depend on beside the fast weights.

    Attributes:
        start: phi_0, [num_tasks, num_adapted].
        rest: other parameters of the part that adapts, [num_tasks, ...]; may be empty.
        support, query: inputs of that part, prepared.
        num_runs: runs trained together, each with meta-parameters of its own; None where all tasks share them.
    """

    start: Tensor
    rest: Tensor
    support: Tensor
    query: Tensor
    num_runs: int | None

    @property
    def context(self) -> Params:
        """Return what gradients and scores depend on beside the fast weights, by name."""
        return {_REST: self.rest, _SUPPORT: self.support, _QUERY: self.query}


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
        self._by_support: dict[tuple[str, int], TaskNetwork] = {}

    def _problem(self, theta: Params, support_x: Tensor, query_x: Tensor) -> _ChunkProblem:
        num_tasks, model = len(support_x), self.objective.start(theta)
        first = self.adapting.layout
        value = model[first.names[0]]
        num_runs = len(value) if value.ndim > len(first.shapes[0]) else None

        def expanded(layout: Layout) -> Tensor:
            if not layout.names:
                return support_x.new_empty(num_tasks, 0)
            return _per_task(layout, model, num_tasks)

        if self.body is None:
            support, query = self.adapting.prepared(support_x), self.adapting.prepared(query_x)
        else:
            support, query = self.features(model, support_x, query_x)
        return _ChunkProblem(expanded(self.fast_layout), expanded(self.rest_layout), support, query, num_runs)

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
            return body.outputs(x, body.prepared(x))
        features: Tensor = Features.apply(body, _per_task(body.layout, model, len(x)), body.prepared(x))
        return features

    def _query_outputs(self, problem: _ChunkProblem, support_x: Tensor, query_x: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function of flat parameters that gives the outputs of the query sets; no derivative is kept."""
        if self.body is not None or not self.objective.inner.support_statistics:
            return lambda flat: self.adapting.outputs(flat, problem.query)
        num_support = support_x.shape[1]
        network = self._normalised_by_support("all", num_support)
        both = network.prepared(torch.cat([support_x, query_x], dim=1))
        return lambda flat: network.outputs(flat, both)[:, num_support:]

    def _adapt(
        self,
        problem: _ChunkProblem,
        xi: Params,
        support_y: Tensor,
        observe: Observe | None = None,
        *,
        observes_start: bool = True,
    ) -> Adaptation:
        inner = self.objective.inner
        num_tasks, num_adapted = problem.start.shape
        num_runs = problem.num_runs
        of_names, scales = inner.transform, dict[str, Tensor]()
        if isinstance(of_names, LearnedRates):
            rates, xi = of_names.split(xi)
            scales, of_names = flat_scales(of_names, rates, self.fast_layout), of_names.transform
        if not inner.adapt_transform:
            of_names, xi = prepared(of_names, xi)
        else:
            xi = {name: _repeated(value, num_tasks, num_runs) for name, value in xi.items()}

        def gradient(fast: Params, context: Params) -> Params:
            flat = _beside(fast[FAST], context[_REST])
            with torch.set_grad_enabled(torch.is_grad_enabled() and not inner.first_order):
                gradients: Tensor = LossGradient.apply(self.adapting, flat, context[_SUPPORT], support_y)
            return {FAST: gradients[:, :num_adapted] if problem.rest.shape[1] else gradients}

        shared_by = None if inner.adapt_transform else num_runs
        transform = FlatTransform(of_names, self.fast_layout, inner.adapt_transform, shared_by, len(scales))
        return unroll(
            gradient,
            {FAST: problem.start},
            {**xi, **scales},
            replace(inner, adapted=(FAST,), transform=transform),
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
            outputs: Tensor = Features.apply(self.adapting, _beside(fast[FAST], context[_REST]), context[_QUERY])
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
            flat = _beside(fast[FAST], context[_REST])
            columns = []
            for outputs, y in (
                (self.adapting.outputs(flat, context[_SUPPORT]), support_y),
                (of_query(flat), query_y),
            ):
                columns += [task_losses(outputs, y), task_accuracies(outputs, y)]
            return torch.stack(columns, dim=1)

        return torch.stack(self._adapt(problem, xi, support_y, scores).observations, dim=1)


def _per_task(layout: Layout, model: Params, num_tasks: int) -> Tensor:
    """Return the parameters as one row per task, [num_tasks, num_parameters]."""
    flat = layout.flat(model)
    return _repeated(flat, num_tasks, len(flat) if flat.ndim == 2 else None)


def _beside(fast: Tensor, rest: Tensor) -> Tensor:
    """Return all parameters of the part that adapts, [num_tasks, num_parameters]."""
    return torch.cat([fast, rest], dim=1) if rest.shape[1] else fast


def _repeated(value: Tensor, num_tasks: int, num_runs: int | None) -> Tensor:
    """Return a value for each task, [num_tasks, ...], from one for all, or one for each run."""
    if num_runs is None:
        return value.expand(num_tasks, *value.shape)
    return value.repeat_interleave(num_tasks // num_runs, dim=0)


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
