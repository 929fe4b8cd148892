"""This module makes the cases of `mamlcli bench`: shipped recipes with keys changed, and episodes of the right shapes.

The inputs are random patterns: how long a meta-gradient takes depends on shapes alone, and nothing has to be
downloaded. A case that says nothing else is 5-shot with 5 queries per class, 16 tasks, exact second order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mamlcli.common.errors import MamlError
from mamlcli.common.seeds import key_seed
from mamlcli.common.words import nearest
from mamlcli.engine.objective import MetaParams
from mamlcli.recipe.files import load_recipe
from mamlcli.tasks.episodes import Episode
from mamlcli.training.experiment import Experiment, build_without_data

SHOTS, QUERIES, NUM_TASKS = 5, 5, 16
INNER_STEPS = 5

# What is timed: one meta-gradient; one meta-iteration, with the drawing of its tasks and the outer step; or the scores
# of many tasks at every inner step.
META_GRADIENT, ITERATION, EVALUATION = "meta-gradient", "iteration", "evaluation"

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
        memory_modes: also measure `inner.memory=constant`, in place of the loop.
        kind: what is timed: `META_GRADIENT`, `ITERATION` or `EVALUATION`.
        shots, queries: support and query inputs of a class.
        tasks: of the meta-batch, or all that are scored.
    """

    name: str
    words: str
    recipe: str
    overrides: tuple[str, ...]
    input_shape: tuple[int, ...]
    ways: int = 5
    memory_modes: bool = False
    kind: str = META_GRADIENT
    shots: int = SHOTS
    queries: int = QUERIES
    tasks: int = NUM_TASKS

    @property
    def num_support(self) -> int:
        """Support inputs of one task."""
        return self.ways * self.shots

    @property
    def num_query(self) -> int:
        """Query inputs of one task."""
        return self.ways * self.queries

    @property
    def episode_tasks(self) -> int:
        """Tasks of the episode that `problem_of` gives; what draws its own tasks needs none of it."""
        return self.tasks if self.kind == META_GRADIENT else 1


# The peers adapt every parameter, whatever the recipe leaves out.
_COMMON = (f"outer.tasks={NUM_TASKS}", "inner.algorithm=maml", "inner.first_order=false", "inner.adapt=null")

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


# Few tasks: a hundred steps of a meta-batch would take minutes each time.
_STEPS_TASKS = 2


def _steps_case(num_steps: int) -> Case:
    return Case(
        f"steps-{num_steps}",
        f"omniglot's network, {_STEPS_TASKS} tasks, {num_steps} inner step{'s' if num_steps > 1 else ''}",
        "omniglot-20way-1shot",
        (*_OMNIGLOT, f"outer.tasks={_STEPS_TASKS}", f"inner.steps={num_steps}"),
        (1, 28, 28),
        memory_modes=True,
        tasks=_STEPS_TASKS,
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
        Case(
            "anil",
            "ANIL, CNN 2x32, stride 1, 32x32",
            "cifar-fs-5way-5shot-anil",
            (f"outer.tasks={NUM_TASKS}", f"tasks.shots={SHOTS}", f"tasks.queries={QUERIES}"),
            (3, 32, 32),
        ),
        Case("kfo", "cifar-fs with Meta-KFO", "cifar-fs-5way-5shot", (*_CIFAR, "inner.transform=kfo"), (3, 32, 32)),
        Case(
            "shallow",
            "meta-iteration, CNN 1x32, stride 2, 28x28, 8 tasks of 1 shot, 3 steps",
            "omniglot-5way-1shot",
            ("model.depth=1",),
            (1, 28, 28),
            kind=ITERATION,
            shots=1,
            tasks=8,
        ),
        Case(
            "evaluation",
            "600 tasks scored, CNN 4x32, stride 2, 28x28, 1 shot, 0 to 3 steps",
            "omniglot-5way-1shot",
            (),
            (1, 28, 28),
            kind=EVALUATION,
            shots=1,
            tasks=600,
        ),
        *(_steps_case(num_steps) for num_steps in (1, 5, 25, 100)),
    )
}

# It takes longer than the other cases of inner steps together, and is measured by its own name.
_LONGEST = "steps-100"

# Names that stand for several cases.
_STEPS = tuple(name for name in CASES if name.startswith("steps-"))
GROUPS = {"steps": tuple(name for name in _STEPS if name != _LONGEST)}

DEFAULT_CASES = tuple(name for name in CASES if name not in _STEPS)


def chosen_cases(names: list[str]) -> list[Case]:
    """Return the cases of these names, a group of cases in place of its name, each once.

    Raises:
        MamlError: a name that is none; the message names the nearest.
    """
    cases: dict[str, Case] = {}
    for name in names:
        if name not in CASES and name not in GROUPS:
            known = [*DEFAULT_CASES, *GROUPS, *_STEPS]
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
        case: the case.
        experiment: built from the recipe of the case.
        meta: where the meta-gradient is taken.
        episode: the tasks.
    """

    case: Case
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
    num_tasks: int | None = None,
    extra: tuple[str, ...] = (),
    seed: int = 0,
) -> Problem:
    """Return a case with meta-parameters and tasks that are the same numbers in every precision.

    Everything is drawn in float32 on the CPU, each tensor from its own generator, so fewer tasks are the first ones.

    Args:
        case, device, dtype, extra: as in `experiment_of`.
        num_tasks: tasks of the episode; None for `Case.episode_tasks`.
        seed: of parameters and tasks.
    """
    drawn = experiment_of(case, device="cpu").initial_meta()
    experiment = experiment_of(case, device=device, dtype=dtype, extra=extra)
    xi = {name: value + _XI_SCALE * _normal(value.shape, seed, name) for name, value in drawn.transform.items()}
    flat = MetaParams(drawn.model, xi).flat()
    meta = MetaParams.from_flat({name: value.to(experiment.device, dtype) for name, value in flat.items()})
    num_tasks = case.episode_tasks if num_tasks is None else num_tasks
    return Problem(case, experiment, meta, _episode(case, experiment, num_tasks, seed))


def _episode(case: Case, experiment: Experiment, num_tasks: int, seed: int) -> Episode:
    def inputs(part: str, repeats: int) -> Tensor:
        drawn = torch.stack([_inputs(case, repeats, seed, task, part) for task in range(num_tasks)])
        return drawn.to(experiment.device, experiment.dtype)

    def labels(repeats: int) -> Tensor:
        of_task = torch.arange(case.ways).repeat_interleave(repeats)
        return of_task.expand(num_tasks, -1).contiguous().to(experiment.device)

    support_x, query_x = inputs("support", case.shots), inputs("query", case.queries)
    return Episode(support_x, labels(case.shots), query_x, labels(case.queries), truth={})


def _inputs(case: Case, repeats: int, seed: int, task: int, part: str) -> Tensor:
    """Return the inputs of one set, class after class, float32: a pattern for each class of the task, and noise.

    Images are smooth patterns in [0, 1] in steps of 1/255. Of noise alone, images of all classes would look the same
    to a network, and its meta-gradient in float32 would be a tenth off by rounding.
    """
    classes = torch.Generator().manual_seed(key_seed(seed, "bench", "classes", task))
    noise = torch.Generator().manual_seed(key_seed(seed, "bench", part, task))
    if len(case.input_shape) == 1:
        centres = torch.randn((case.ways, *case.input_shape), generator=classes).repeat_interleave(repeats, dim=0)
        return centres + torch.randn(centres.shape, generator=noise)
    coarse = torch.rand((case.ways, case.input_shape[0], 7, 7), generator=classes)
    patterns = functional.interpolate(coarse, case.input_shape[1:], mode="bilinear").repeat_interleave(repeats, dim=0)
    return (255 * (0.8 * patterns + 0.2 * torch.rand(patterns.shape, generator=noise))).round() / 255


def _normal(shape: torch.Size, seed: int, name: str) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(key_seed(seed, "bench", "xi", name)))
