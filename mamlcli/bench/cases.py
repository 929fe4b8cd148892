"""This module makes the cases of `mamlcli bench`: shipped recipes with keys changed, and episodes of the right shapes.

The inputs are random patterns: how long a meta-gradient takes depends on shapes alone, and nothing has to be
downloaded. All cases are 5-shot with 5 queries per class, 16 tasks, exact second order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mamlcli.common.errors import MamlError
from mamlcli.common.seeds import key_seed
from mamlcli.common.words import nearest
from mamlcli.engine.networks import Network
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.sizes import forward_flops
from mamlcli.recipe.files import load_recipe
from mamlcli.tasks.episodes import Episode
from mamlcli.training.experiment import Experiment, build_without_data

SHOTS, QUERIES, NUM_TASKS = 5, 5, 16
INNER_STEPS = 5

# xi starts at the identity, where a transposed or a forgotten factor would not be seen.
_XI_SCALE = 0.02


@dataclass(frozen=True)
class Case:
    """Describes one problem that is measured.

    Attributes:
        name: as in `--cases`.
        words: what it is, for people.
        recipe: the shipped recipe it starts from.
        overrides: keys changed.
        input_shape: of one input.
        ways: classes of a task.
        memory_modes: also measure `inner.memory=constant`.
    """

    name: str
    words: str
    recipe: str
    overrides: tuple[str, ...]
    input_shape: tuple[int, ...]
    ways: int = 5
    memory_modes: bool = False

    @property
    def num_inputs(self) -> int:
        """Support inputs of one task, and as many query inputs."""
        return self.ways * SHOTS


_COMMON = (f"outer.tasks={NUM_TASKS}", "inner.algorithm=maml", "inner.first_order=false")

_IMAGES = (*_COMMON, "tasks.ways=5", f"tasks.shots={SHOTS}", f"tasks.queries={QUERIES}")

_OMNIGLOT = (*_IMAGES, "model.depth=4", "model.width=64", "model.stride=2")

_CIFAR = (*_IMAGES, "model.depth=4", "model.width=32", "model.stride=2", f"inner.steps={INNER_STEPS}")

# The points of a logistic task are counted together, not per class.
_LOGISTIC = (
    *_COMMON,
    "tasks.dimension=100",
    f"tasks.shots={2 * SHOTS}",
    f"tasks.queries={2 * QUERIES}",
    "model.depth=3",
    "model.width=100",
    f"inner.steps={INNER_STEPS}",
)


def _steps_case(num_steps: int) -> Case:
    return Case(
        f"steps-{num_steps}",
        f"omniglot's network, {num_steps} inner step{'s' if num_steps > 1 else ''}",
        "omniglot-20way-1shot",
        (*_OMNIGLOT, f"inner.steps={num_steps}"),
        (1, 28, 28),
        memory_modes=True,
    )


CASES = {
    case.name: case
    for case in (
        Case(
            "omniglot",
            "CNN 4x64, stride 2, 28x28",
            "omniglot-20way-1shot",
            (*_OMNIGLOT, f"inner.steps={INNER_STEPS}"),
            (1, 28, 28),
        ),
        Case("cifar-fs", "CNN 4x32, stride 2, 32x32", "cifar-fs-5way-5shot", _CIFAR, (3, 32, 32)),
        Case(
            "cifar-fs-release",
            "CNN 2x32, stride 1, 32x32",
            "cifar-fs-5way-5shot",
            (*_IMAGES, f"inner.steps={INNER_STEPS}"),
            (3, 32, 32),
        ),
        Case("logistic", "3 linear layers of width 100", "logistic", _LOGISTIC, (100,), ways=2),
        Case("kfo", "cifar-fs with Meta-KFO", "cifar-fs-5way-5shot", (*_CIFAR, "inner.transform=kfo"), (3, 32, 32)),
        *(_steps_case(num_steps) for num_steps in (1, 5, 25, 100)),
    )
}

# Names that stand for several cases.
GROUPS = {"steps": tuple(name for name in CASES if name.startswith("steps-"))}

DEFAULT_CASES = ("omniglot", "cifar-fs", "cifar-fs-release", "logistic", "kfo")


def chosen_cases(names: list[str]) -> list[Case]:
    """Return the cases of these names, a group of cases in place of its name, each once.

    Raises:
        MamlError: a name that is none; the message names the nearest.
    """
    cases: dict[str, Case] = {}
    for name in names:
        if name not in CASES and name not in GROUPS:
            known = [*DEFAULT_CASES, *GROUPS, *GROUPS["steps"]]
            expected, why = f"names of {', '.join(known)}", nearest(name, known).strip() or None
            raise MamlError("--cases", expected=expected, got=repr(name), why=why)
        cases.update({below: CASES[below] for below in GROUPS.get(name, (name,))})
    if not cases:
        raise MamlError("--cases", expected=f"names of {', '.join([*DEFAULT_CASES, *GROUPS])}", got="none")
    return list(cases.values())


@dataclass(frozen=True)
class Problem:
    """Holds what the meta-gradient of a case is computed from.

    Attributes:
        experiment: built from the recipe of the case.
        meta: where the meta-gradient is taken.
        episode: the tasks.
    """

    experiment: Experiment
    meta: MetaParams
    episode: Episode


def experiment_of(
    case: Case, *, device: str, dtype: torch.dtype = torch.float32, extra: tuple[str, ...] = ()
) -> Experiment:
    """Return the experiment of a case, without data; it sets the threads of this process as a run of it does.

    Args:
        case: the case.
        device: as in `execution.device`.
        dtype: of the computation.
        extra: further overrides.

    Raises:
        RecipeError: one of `extra` is refused.
    """
    keys = (f"execution.device={device}", f"execution.dtype={str(dtype).removeprefix('torch.')}")
    _, recipe = load_recipe(case.recipe, (*case.overrides, *keys, *extra))
    experiment = build_without_data(recipe, input_shape=case.input_shape, num_outputs=case.ways)
    experiment.use_threads()
    return experiment


def problem_of(
    case: Case,
    *,
    device: str,
    dtype: torch.dtype = torch.float32,
    num_tasks: int = NUM_TASKS,
    extra: tuple[str, ...] = (),
    seed: int = 0,
) -> Problem:
    """Return a case with meta-parameters and tasks that are the same numbers in every precision.

    Everything is drawn in float32 on the CPU, each tensor from its own generator, so fewer tasks are the first ones.

    Args:
        case, device, dtype, extra: as in `experiment_of`.
        num_tasks: tasks of the episode.
        seed: of parameters and tasks.
    """
    drawn = experiment_of(case, device="cpu").initial_meta()
    experiment = experiment_of(case, device=device, dtype=dtype, extra=extra)
    xi = {name: value + _XI_SCALE * _normal(value.shape, seed, name) for name, value in drawn.transform.items()}
    flat = MetaParams(drawn.model, xi).flat()
    meta = MetaParams.from_flat({name: value.to(experiment.device, dtype) for name, value in flat.items()})
    return Problem(experiment, meta, _episode(case, experiment, num_tasks, seed))


def _episode(case: Case, experiment: Experiment, num_tasks: int, seed: int) -> Episode:
    def inputs(part: str) -> Tensor:
        drawn = torch.stack([_inputs(case, seed, task, part) for task in range(num_tasks)])
        return drawn.to(experiment.device, experiment.dtype)

    labels = torch.arange(case.ways).repeat_interleave(SHOTS).expand(num_tasks, -1).contiguous().to(experiment.device)
    return Episode(inputs("support"), labels, inputs("query"), labels, truth={})


def _inputs(case: Case, seed: int, task: int, part: str) -> Tensor:
    """Return the inputs of one set, class after class, float32: a pattern for each class of the task, and noise.

    Images are smooth patterns in [0, 1] in steps of 1/255. Of noise alone, images of all classes would look the same
    to a network, and its meta-gradient in float32 would be a tenth off by rounding.
    """
    classes = torch.Generator().manual_seed(key_seed(seed, "bench", "classes", task))
    noise = torch.Generator().manual_seed(key_seed(seed, "bench", part, task))
    if len(case.input_shape) == 1:
        centres = torch.randn((case.ways, *case.input_shape), generator=classes).repeat_interleave(SHOTS, dim=0)
        return centres + torch.randn(centres.shape, generator=noise)
    coarse = torch.rand((case.ways, case.input_shape[0], 7, 7), generator=classes)
    patterns = functional.interpolate(coarse, case.input_shape[1:], mode="bilinear").repeat_interleave(SHOTS, dim=0)
    return (255 * (0.8 * patterns + 0.2 * torch.rand(patterns.shape, generator=noise))).round() / 255


def _normal(shape: torch.Size, seed: int, name: str) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(key_seed(seed, "bench", "xi", name)))


# In units of a forward pass. An inner step: forward 1, gradient 2, and in the outer backward pass the derivative of
# the forward 2 and of the gradient 4, since each of its two products has two factors. The query: forward 1, gradient 2.
STEP_FORWARDS, QUERY_FORWARDS = 9, 3


def meta_gradient_flops(network: Network, *, num_support: int, num_query: int, num_steps: int, num_tasks: int) -> int:
    """Return the operations of one exact second-order meta-gradient that keeps its graph.

    num_tasks * forward * (9 * num_steps * num_support + 3 * num_query)

    The convolutions and linear layers alone are counted, as if the first layer, too, needed the gradient of its
    input; norms, non-linearities, transforms and the updates are left out. The count is nominal: an implementation
    that saves or repeats work is still measured by it.
    """
    return num_tasks * forward_flops(network) * (STEP_FORWARDS * num_steps * num_support + QUERY_FORWARDS * num_query)


def case_flops(case: Case) -> int:
    """Return `meta_gradient_flops` of a case."""
    experiment = experiment_of(case, device="cpu")
    return meta_gradient_flops(
        experiment.network,
        num_support=case.num_inputs,
        num_query=case.num_inputs,
        num_steps=experiment.recipe.inner.steps,
        num_tasks=NUM_TASKS,
    )
