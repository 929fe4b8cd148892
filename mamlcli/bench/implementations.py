"""This module knows what `mamlcli bench` times, our ways of execution and the peers, and checks that they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mamlcli.bench.cases import NUM_TASKS, Case, Problem, experiment_of, problem_of
from mamlcli.bench.peers import PEERS, PLAIN_LOOP, MetaGradientFunction, PeerProblem, absent_peers
from mamlcli.common.errors import RecipeError
from mamlcli.engine.execution import Execution, meta_gradients
from mamlcli.training.experiment import Experiment
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
        return self.name == COMPILED


OURS = {
    AUTO: Implementation(AUTO),
    LOOP: Implementation(LOOP, ("execution.path=loop",)),
    CONSTANT: Implementation(CONSTANT, ("inner.memory=constant",)),
    COMPILED: Implementation(COMPILED, ("execution.compile=true",)),
    WITHOUT_GRAPHS: Implementation(WITHOUT_GRAPHS, ("execution.cuda_graphs=off",)),
}


def implementations(case: Case, *, device: str, with_compiled: bool = False) -> tuple[list[Implementation], list[str]]:
    """Return what is measured on a case, ours first, and a line for everything that is left out."""
    wanted = [OURS[AUTO], OURS[LOOP]]
    wanted += [OURS[CONSTANT]] if case.memory_modes else []
    wanted += [OURS[COMPILED]] if with_compiled else []
    wanted += [OURS[WITHOUT_GRAPHS]] if resolve_device(device).type == "cuda" else []
    usable, left_out = [], []
    for implementation in wanted:
        try:
            problem_of(case, device=device, num_tasks=1, extra=implementation.extra)
            usable.append(implementation)
        except RecipeError as error:
            left_out.append(f"{case.name}: {implementation.name} is left out: {error.problems[0]}")
    absent = absent_peers()
    usable += [Implementation(name) for name in PEERS if name not in absent]
    return usable, left_out


def our_execution(experiment: Experiment) -> Execution:
    """Return how mamlcli runs a meta-batch: as the recipe says, by default as `auto` picks."""
    return experiment.execution(num_tasks=NUM_TASKS, num_steps=experiment.recipe.inner.steps)


def prepared(implementation: Implementation, problem: Problem) -> MetaGradientFunction:
    """Return the function that computes one meta-gradient; what a program does once is done here."""
    experiment, meta, episode = problem.experiment, problem.meta, problem.episode
    if implementation.is_ours:
        objective, execution = experiment.objective(), our_execution(experiment)
        graphs = graphs_of(experiment.recipe, experiment.device, execution)
        return lambda: meta_gradients(objective, [meta], episode, execution, graphs=graphs)[0].gradients
    inner, model = experiment.recipe.inner, experiment.recipe.model
    peer = PeerProblem(meta.model, meta.transform, episode, inner.lr, inner.steps, getattr(model, "stride", 1))
    return PEERS[implementation.name](peer)


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
_NUM_CHECKED = 4

# How far a meta-gradient in float64 may be from the plain loop's: more than rounding explains is another one.
TOLERANCE = 1e-8


def num_checked_tasks(flops: float) -> int:
    """Return how many tasks of a case the agreement is checked on."""
    return NUM_TASKS if flops <= _CHECK_FLOPS else _NUM_CHECKED


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
