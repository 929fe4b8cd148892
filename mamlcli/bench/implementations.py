"""This module knows what `mamlcli bench` times, our ways of execution and the peers, and checks that they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mamlcli.bench.cases import EVALUATION, ITERATION, META_GRADIENT, Case, Problem, experiment_of, problem_of
from mamlcli.bench.peer_problem import MetaGradientFunction, PeerProblem
from mamlcli.bench.peers import JAX, PEERS, PLAIN_LOOP, absent_peers
from mamlcli.bench.workloads import (
    WHOLE_PEERS,
    our_evaluation,
    our_iteration,
    our_scores,
    peer_evaluation,
    peer_iteration,
    peer_scores,
)
from mamlcli.common.errors import RecipeError
from mamlcli.engine.execution import Execution, meta_gradients
from mamlcli.engine.objective import adapts_head_only
from mamlcli.training.graphs import graphs_of
from mamlcli.training.placement import resolve_device

Params = dict[str, Tensor]

AUTO, LOOP, CONSTANT, COMPILED = "mamlcli (auto)", "mamlcli loop", "mamlcli constant", "mamlcli compiled"
WITHOUT_GRAPHS = "mamlcli, no CUDA graphs"


@dataclass(frozen=True)
class Implementation:
    """Names one way to compute the meta-gradient of a case.

    Attributes:
        name: as in tables.
        extra: overrides of the recipe, for ours.
    """

    name: str
    extra: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        return self.name not in PEERS

    @property
    def is_compiled(self) -> bool:
        return self.name in (COMPILED, JAX)


OURS = {
    AUTO: Implementation(AUTO),
    LOOP: Implementation(LOOP, ("execution.path=loop",)),
    CONSTANT: Implementation(CONSTANT, ("inner.memory=constant",)),
    COMPILED: Implementation(COMPILED, ("execution.compile=true",)),
    WITHOUT_GRAPHS: Implementation(WITHOUT_GRAPHS, ("execution.cuda_graphs=off",)),
}


def implementations(case: Case, *, device: str, with_compiled: bool = False) -> tuple[list[Implementation], list[str]]:
    """Return what is measured on a case, ours first, and a line for everything that is left out."""
    wanted = [OURS[AUTO], OURS[CONSTANT] if case.memory_modes else OURS[LOOP]]
    wanted += [OURS[COMPILED]] if with_compiled and case.kind == META_GRADIENT else []
    is_on_gpu = resolve_device(device).type == "cuda"
    wanted += [OURS[WITHOUT_GRAPHS]] if is_on_gpu and case.kind != EVALUATION else []
    usable, left_out = [], []
    for implementation in wanted:
        try:
            problem_of(case, device=device, num_tasks=1, extra=implementation.extra)
            usable.append(implementation)
        except RecipeError as error:
            left_out.append(f"{case.name}: {implementation.name} is left out: {error.problems[0]}")
    absent = absent_peers()
    for name in PEERS if case.kind == META_GRADIENT else WHOLE_PEERS:
        reason = _why_not_jax(case, device) if name == JAX else None
        if name not in absent and reason is not None:
            left_out.append(f"{case.name}: {name} is left out: {reason}")
        elif name not in absent:
            usable.append(Implementation(name))
    return usable, left_out


def _why_not_jax(case: Case, device: str) -> str | None:
    """Return why JAX is not measured on a case; None where it is."""
    if case.memory_modes:
        return "compiling for every number of steps would take longer than all else here"
    if resolve_device(device).type != "cpu":
        import jax  # it is installed; loading it takes a second

        if resolve_device(device).type != "cuda" or jax.default_backend() != "gpu":
            return "as it is installed, it computes on another device"
    return None


def our_execution(problem: Problem) -> Execution:
    """Return how mamlcli runs the tasks of a case: as the recipe says, by default as `auto` picks."""
    experiment, is_scoring = problem.experiment, problem.case.kind == EVALUATION
    num_steps = 0 if is_scoring else experiment.recipe.inner.steps
    return experiment.execution(num_tasks=problem.case.tasks, num_steps=num_steps)


def peer_problem(problem: Problem) -> PeerProblem:
    """Return a problem as peers take it."""
    experiment, meta = problem.experiment, problem.meta
    inner, stride = experiment.recipe.inner, getattr(experiment.recipe.model, "stride", 1)
    head_only = adapts_head_only(experiment.network, experiment.objective().inner)
    return PeerProblem(meta.model, meta.transform, problem.episode, inner.lr, inner.steps, stride, head_only)


def prepared(implementation: Implementation, problem: Problem) -> MetaGradientFunction:
    """Return the function whose result is compared: the meta-gradient of the problem's tasks, or their scores.

    What a program does once is done here.
    """
    is_scoring = problem.case.kind == EVALUATION
    if implementation.is_ours:
        execution = our_execution(problem)
        if is_scoring:
            return lambda: our_scores(problem, execution)
        objective, meta, episode = problem.experiment.objective(), problem.meta, problem.episode
        graphs = graphs_of(problem.experiment.recipe, problem.experiment.device, execution)
        return lambda: meta_gradients(objective, [meta], episode, execution, graphs=graphs)[0].gradients
    peer = peer_problem(problem)
    return (lambda: peer_scores(implementation.name, peer)) if is_scoring else PEERS[implementation.name](peer)


def timed(
    implementation: Implementation, problem: Problem, *, num_tasks: int | None = None, is_alone: bool = False
) -> MetaGradientFunction:
    """Return the function that is timed: what `prepared` returns, or a whole meta-iteration or evaluation.

    Args:
        implementation, problem: as in `prepared`.
        num_tasks: of an evaluation; None for those of the case.
        is_alone: let one thread run all chunks of tasks, in which operations are counted.
    """
    case, name = problem.case, implementation.name
    num_tasks = case.tasks if num_tasks is None else num_tasks
    if not implementation.is_ours:
        if case.kind == META_GRADIENT:
            return prepared(implementation, problem)
        peer = peer_problem(problem)
        if case.kind == ITERATION:
            return peer_iteration(name, peer, problem)
        return peer_evaluation(name, peer, problem, num_tasks)
    execution = our_execution(problem)
    execution = replace(execution, parallel=1) if is_alone else execution
    if case.kind == ITERATION:
        return our_iteration(problem, execution)
    if case.kind == EVALUATION:
        return our_evaluation(problem, execution, num_tasks)
    objective, meta, episode = problem.experiment.objective(), problem.meta, problem.episode
    graphs = graphs_of(problem.experiment.recipe, problem.experiment.device, execution)
    return lambda: meta_gradients(objective, [meta], episode, execution, graphs=graphs)[0].gradients


def own_threads(implementation: Implementation, case: Case, *, device: str, all_threads: int) -> list[int]:
    """Return the numbers of threads to try for one operation: for ours what a run gets, for a peer 1 and all."""
    if implementation.is_ours:
        torch.set_num_threads(all_threads)
        experiment_of(case, device=device, extra=implementation.extra)
        return [torch.get_num_threads()]
    return sorted({1, all_threads}) if resolve_device(device).type == "cpu" else [all_threads]


# Agreement ----------------------------------------------------------------------------------------------------


def strict_difference(measured: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return the largest error of any tensor, relative to the largest entry of that tensor.

    A tensor whose entries are below a thousandth of the largest of all (a convolution's bias before a batch norm has
    a gradient of zero, up to rounding) is measured against that thousandth instead. Infinity where names differ.
    """
    if measured.keys() != expected.keys():
        return math.inf
    sizes = {name: float(value.abs().max()) for name, value in expected.items()}
    floor = 1e-3 * max(sizes.values())
    errors = [
        float((measured[name].to(value) - value).abs().max()) / max(sizes[name], floor)
        for name, value in expected.items()
    ]
    return math.nan if any(math.isnan(error) for error in errors) else max(errors)


def difference_of_norms(measured: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return |measured - expected| / |expected|, Euclidean norms over all entries."""
    error = sum(float((measured[name].to(value) - value).square().sum()) for name, value in expected.items())
    return math.sqrt(error / sum(float(value.square().sum()) for value in expected.values()))


# Larger cases are checked on their first tasks only: double precision would take longer than all timing.
_CHECK_FLOPS = 2e11
_NUM_CHECKED, _MOST_CHECKED = 4, 16

# How far a meta-gradient in float64 may be from the plain loop's: more than rounding explains is another one.
TOLERANCE = 1e-8


def num_checked_tasks(flops: float, num_tasks: int) -> int:
    """Return how many tasks of a case the agreement is checked on: one where even few take long."""
    if flops <= _CHECK_FLOPS:
        return min(num_tasks, _MOST_CHECKED)
    return min(_NUM_CHECKED, max(1, num_tasks // 2))


@dataclass(frozen=True)
class Differences:
    """Tells how far a meta-gradient is from the reference: `strict_difference` in float64, a norm in float32."""

    float64: float
    float32: float


@dataclass
class Agreement:
    """Compares implementations with the plain loop's meta-gradient in float64.

    Attributes:
        case: the case it is of.
        device: as in `execution.device`.
        num_tasks: tasks of the episode.
        reference: the plain loop's meta-gradient.
    """

    case: Case
    device: str
    num_tasks: int
    reference: Params

    @classmethod
    def of(cls, case: Case, *, device: str, num_tasks: int) -> Agreement:
        """Compute the reference."""
        threads = torch.get_num_threads()
        problem = problem_of(case, device=device, dtype=torch.float64, num_tasks=num_tasks)
        torch.set_num_threads(threads)
        return cls(case, device, num_tasks, prepared(Implementation(PLAIN_LOOP), problem)())

    def differences(self, implementation: Implementation) -> Differences:
        """Return how far an implementation is from the reference, on the threads set now."""
        return Differences(
            strict_difference(self._gradient(implementation, torch.float64), self.reference),
            difference_of_norms(self._gradient(implementation, torch.float32), self.reference),
        )

    def _gradient(self, implementation: Implementation, dtype: torch.dtype) -> Params:
        threads, extra = torch.get_num_threads(), implementation.extra
        problem = problem_of(self.case, device=self.device, dtype=dtype, num_tasks=self.num_tasks, extra=extra)
        torch.set_num_threads(threads)
        return prepared(implementation, problem)()
