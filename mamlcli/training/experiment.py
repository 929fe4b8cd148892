"""Turns a recipe into an experiment: its network, inner loop, tasks, and the settings of its outer loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from mamlcli.common.architecture import select_names
from mamlcli.common.errors import MamlError
from mamlcli.engine.execution import Execution
from mamlcli.engine.foreign import ForeignNetwork
from mamlcli.engine.networks import Network
from mamlcli.engine.objective import MetaObjective, MetaParams, inner_loop_for
from mamlcli.engine.output_layer import output_layer_names, stored_params
from mamlcli.engine.rates import with_rates
from mamlcli.engine.state import OuterLoop
from mamlcli.engine.threads import give_back_large_blocks, keep_large_blocks
from mamlcli.engine.transforms import GradientTransform, Identity, OfFirstOutputs, Selected
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ClassKeys
from mamlcli.tasks.episodes import TaskDistribution
from mamlcli.training.data import build_tasks
from mamlcli.training.memory import check_fits
from mamlcli.training.networks import build_network, build_transform, first_params
from mamlcli.training.placement import (
    device_and_dtype,
    execution_for,
    is_guest,
    threads_for,
    threads_of_one_operation,
    tuning_key_for,
    use_threads,
)
from mamlcli.training.tf32 import use_tf32

# A dense transform holds the square of a tensor's entries; above this it would not fit beside the model.
MAX_DENSE_ENTRIES = 4096


@dataclass(frozen=True)
class Experiment:
    """Everything a run needs, built from a recipe.

    Attributes:
        recipe: resolved.
        device, dtype: where and in what precision.
        network: the architecture.
        distributions: the tasks that are scored, of each split asked for (see `TaskSets.scored`).
        data: what the tasks come from, primitives, for the manifest.
        num_threads: of the CPU, for all that this experiment computes at a time.
        training: the tasks that are trained on; None unless the split train was asked for.
        trained_network: the network that is trained, where `network` has another number of outputs (`for_ways`).
    """

    recipe: Recipe
    device: torch.device
    dtype: torch.dtype
    network: Network
    distributions: dict[str, TaskDistribution]
    data: Mapping[str, object]
    num_threads: int = 1
    training: TaskDistribution | None = None
    trained_network: Network | None = None

    @property
    def data_digest(self) -> str | None:
        """The digest of the images; None for tasks that are generated."""
        digest = self.data.get("digest")
        return None if digest is None else str(digest)

    @cached_property
    def _objective(self) -> MetaObjective:
        """Network and inner loop with `inner.steps` steps, made once for an experiment."""
        inner = self.recipe.inner
        loop = inner_loop_for(
            inner.algorithm,
            self.network,
            lr=inner.lr,
            num_inner_steps=inner.steps,
            first_order=inner.first_order,
            adapt_patterns=inner.adapt,
            adapt_transform=inner.transform.adapted,
            joint_features=inner.joint_features,
            recompute=inner.memory == "constant",
            head=inner.head,
        )
        transform = self._transform(loop.adapted)
        if self.trained_network is not None and self.trained_network.num_outputs > self.network.num_outputs:
            sizes = dict(self.trained_network.named_parameters())
            rows = tuple((name, len(sizes[name])) for name in output_layer_names(self.trained_network))
            transform = transform if isinstance(transform, Identity) else OfFirstOutputs(transform, rows)
        transform = with_rates(transform, inner.rates, lr=inner.lr, num_steps=inner.steps)
        return MetaObjective(self.network, replace(loop, transform=transform))

    def objective(self, num_steps: int | None = None) -> MetaObjective:
        """Return network and inner loop, with `inner.steps` steps or as many as given."""
        return _with_steps(self._objective, num_steps)

    @cached_property
    def _scoring(self) -> Experiment:
        """This experiment for tasks of as many ways as are scored."""
        tasks = self.recipe.scored_tasks
        if not isinstance(tasks, ClassKeys):
            return self
        return self.for_ways(tasks.ways, where="evaluation.ways")

    def scoring_objective(self, num_steps: int | None = None) -> MetaObjective:
        """Return what tasks are scored by: as `objective`, with the ways and the batch norm of `evaluation`."""
        return _with_steps(self._scoring_objective, num_steps)

    @cached_property
    def _scoring_objective(self) -> MetaObjective:
        made = self._scoring.objective()
        if self.recipe.evaluation.batch_norm == "joint":
            return made
        return replace(made, inner=replace(made.inner, support_statistics=True))

    def _transform(self, adapted: tuple[str, ...]) -> GradientTransform:
        spec = self.recipe.inner.transform
        if spec.name == "none":
            return Identity()
        names = select_names(adapted, spec.parameters, where="inner.transform.parameters")
        transform = build_transform(self.recipe)
        if spec.name == "dense":
            sizes = {name: p.numel() for name, p in self.network.named_parameters() if name in names}
            largest = max(sizes, key=lambda name: sizes[name])
            if sizes[largest] > MAX_DENSE_ENTRIES:
                raise MamlError(
                    "inner.transform.name",
                    expected="another transform than dense for a model this large",
                    got=f"{largest} with {sizes[largest]} entries, above {MAX_DENSE_ENTRIES}",
                    why="dense learns the square of that",
                    next_step="Use inner.transform=kfo, or choose small tensors with inner.transform.parameters",
                )
        return transform if names == adapted else Selected(transform, names)

    def for_ways(self, ways: int, *, where: str) -> Experiment:
        """Return this experiment for tasks of another number of classes, with the same meta-parameters.

        Its network has `ways` outputs; `objective`, `execution` and the meta-parameters of a run of this experiment
        go together as before. The tasks stay those of the recipe.

        Args:
            ways: classes, at least 2. Fewer than the trained outputs always go: the first outputs are used. More go
                where no meta-parameter has the trained number in its shape, see `ways_of_meta`.
            where: what asks for them, the first word of the message, such as a recipe key.

        Raises:
            MamlError: regression; more ways than the meta-parameters can have; a `model.linear_width` too narrow.
        """
        if ways == self.network.num_outputs:
            return self
        if not self.recipe.is_classification:
            raise MamlError(where, expected="tasks that are classifications", got=f"{self.recipe.tasks.source}")
        trained, reason = self.trained_network or self.network, self.ways_of_meta
        if ways > trained.num_outputs and reason is not None:
            raise MamlError(where, expected=f"at most {trained.num_outputs} classes", got=str(ways), why=reason)
        network = (
            trained.with_outputs(ways)
            if isinstance(trained, ForeignNetwork)
            else build_network(self.recipe, self.network.input_shape, ways)
        )
        return replace(self, network=network, trained_network=trained)

    @cached_property
    def ways_of_meta(self) -> str | None:
        """Why the meta-parameters are for the trained number of ways only, in words; None where they go for any."""
        trained = self.trained_network or self.network
        if isinstance(trained, ForeignNetwork):
            return f"The network that was given has {trained.num_outputs} outputs"
        if self.recipe.inner.head == "learned":
            return (
                f"The learned head has {trained.num_outputs} outputs; a run trained with inner.head=zero or shared "
                "takes any number of classes"
            )
        # Fewer outputs than trained: a linear_width that is too narrow for more must not get in the way.
        other = build_network(self.recipe, trained.input_shape, trained.num_outputs - 1)
        shapes, others = (_xi_shapes(replace(self, network=n, trained_network=None)) for n in (trained, other))
        for name, shape in shapes.items():
            if others.get(name) != shape:
                return (
                    f"The gradient transform {self.recipe.inner.transform.name} has the {trained.num_outputs} ways in "
                    f"the shape of {name}; inner.transform.parameters can leave the output layer out"
                )
        return None

    def initial_meta(self) -> MetaParams:
        """Return the meta-parameters before training."""
        model = first_params(self.recipe, self.network, dtype=self.dtype, device=self.device)
        objective = self.objective()
        theta = stored_params(self.network, objective.inner.head, model)
        start = objective.start(theta)
        adapted = {name: start[name] for name in objective.inner.adapted}
        return MetaParams(theta, objective.inner.transform.init(adapted, self.recipe.seed))

    def outer_loop(self) -> OuterLoop:
        """Return the settings of the outer loop."""
        outer, validation = self.recipe.outer, self.recipe.validation
        return OuterLoop(
            num_outer_steps=outer.iterations,
            lr=outer.lr,
            optimizer=outer.optimizer,
            schedule=outer.schedule,
            lr_min=outer.lr_min,
            weight_decay=outer.weight_decay,
            clip_norm=outer.clip_norm,
            validate_every=validation.every,
            patience=validation.patience,
            validation_metric=validation.metric or "accuracy",
            seed=self.recipe.seed,
        )

    def execution(self, *, num_tasks: int, num_steps: int) -> Execution:
        """Return how tasks are run; `num_steps` of them keep a graph (0 for evaluation)."""
        return execution_for(
            self.recipe,
            self.objective() if num_steps else self.scoring_objective(),
            device=self.device,
            dtype=self.dtype,
            num_threads=self.num_threads,
            num_tasks=num_tasks,
            num_steps=num_steps,
        )

    def use_threads(self) -> None:
        """Set the threads of this process to what suits the experiment; on CUDA, whether it computes with TF32.

        Call it before anything of the experiment is computed: in another number of threads, sums may round otherwise.
        """
        if self.device.type == "cuda":
            use_tf32(self.recipe.execution.tf32)
        if self.device.type == "cpu":
            recipe = self.recipe
            how = self.execution(num_tasks=recipe.outer.tasks, num_steps=recipe.inner.steps)
            use_threads(threads_of_one_operation(recipe, self.network, how, self.num_threads))

    def tuning_key(self, *, num_tasks: int, num_steps: int) -> str:
        """Return the key under which `mamlcli bench --tune` keeps what it measured for such meta-batches."""
        return tuning_key_for(
            self.recipe,
            self.network,
            device=self.device,
            dtype=self.dtype,
            num_threads=self.num_threads,
            num_tasks=num_tasks,
            num_steps=num_steps,
        )


def _with_steps(made: MetaObjective, num_steps: int | None) -> MetaObjective:
    if num_steps is None or num_steps == made.inner.num_inner_steps:
        return made
    return replace(made, inner=replace(made.inner, num_inner_steps=num_steps))


def _xi_shapes(experiment: Experiment) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the gradient transform's meta-parameters by name; nothing is computed."""
    inner = experiment.objective().inner
    params = {name: value.to("meta") for name, value in experiment.network.named_parameters()}
    xi = inner.transform.init({name: params[name] for name in inner.adapted}, experiment.recipe.seed)
    return {name: tuple(value.shape) for name, value in xi.items()}


def build(recipe: Recipe, *, splits: tuple[str, ...], trained_by: Recipe | None = None) -> Experiment:
    """Turn a recipe into objects, checking all that only data and device can tell.

    Args:
        recipe: resolved.
        splits: the splits that will be used; only those need be present in the data.
        trained_by: as in `build_tasks`.

    Raises:
        DeviceError, DataError, MamlError: with the key to change or the command to run.
    """
    device, dtype = device_and_dtype(recipe)
    tasks = build_tasks(recipe, splits=splits, device=device, dtype=dtype, trained_by=trained_by)
    _check_fits(recipe, tasks.input_shape, tasks.num_outputs)
    network = build_network(recipe, tasks.input_shape, tasks.num_outputs)
    num_threads = threads_for(recipe, device)
    experiment = Experiment(recipe, device, dtype, network, tasks.scored, tasks.data, num_threads, tasks.training)
    experiment.scoring_objective()  # parameter patterns, transforms and ways are checked here, before anything runs
    if device.type == "cpu" and not is_guest():
        give_back_large_blocks() if recipe.inner.memory == "constant" else keep_large_blocks()
    return experiment


def build_without_data(recipe: Recipe, *, input_shape: tuple[int, ...], num_outputs: int) -> Experiment:
    """Turn a recipe into the network and inner loop of a trained run, whose data need not be here.

    Args:
        recipe: resolved.
        input_shape, num_outputs: of the network; elsewhere they come from the data.

    Raises:
        DeviceError: this machine does not have the recipe's device.
    """
    device, dtype = device_and_dtype(recipe)
    _check_fits(recipe, input_shape, num_outputs)
    network = build_network(recipe, input_shape, num_outputs)
    return Experiment(recipe, device, dtype, network, {}, {}, threads_for(recipe, device))


def _check_fits(recipe: Recipe, input_shape: tuple[int, ...], num_outputs: int) -> None:
    """Raise MamlError where a recipe needs more memory than there is; none is taken for it."""
    device, dtype = device_and_dtype(recipe)
    is_made = isinstance(recipe.model, OutsideModel)  # a module that is given has its memory already
    with torch.device("cpu" if is_made else "meta"):
        sketch = Experiment(recipe, device, dtype, build_network(recipe, input_shape, num_outputs), {}, {})
        num_transform = sum(math.prod(shape) for shape in _xi_shapes(sketch).values())
    check_fits(recipe, sketch.network, sketch.objective().inner.adapted, num_transform, device=device, dtype=dtype)
