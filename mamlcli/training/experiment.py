"""Turns a recipe into an experiment: its network, inner loop, tasks, and the settings of its outer loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from mamlcli.common.errors import MamlError
from mamlcli.engine.execution import Execution
from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import Network, cnn, linear, mlp, select_names
from mamlcli.engine.objective import MetaObjective, MetaParams, inner_loop_for
from mamlcli.engine.state import OuterLoop
from mamlcli.engine.threads import give_back_large_blocks
from mamlcli.engine.transforms import GradientTransform, Identity, Selected, transforms_by_name
from mamlcli.recipe.schema import Recipe, Transform
from mamlcli.tasks.episodes import TaskDistribution
from mamlcli.training.data import build_tasks
from mamlcli.training.placement import (
    execution_for,
    resolve_device,
    threads_for,
    threads_of_one_operation,
    tuning_key_for,
    use_threads,
)

# A dense transform holds the square of a tensor's entries; above this it would not fit beside the model.
MAX_DENSE_ENTRIES = 4096


@dataclass(frozen=True)
class Experiment:
    """Everything a run needs, built from a recipe.

    Attributes:
        recipe: resolved.
        device, dtype: where and in what precision.
        network: the architecture.
        distributions: the tasks that are scored, of each split asked for.
        data: what the tasks come from, primitives, for the manifest.
        num_threads: of the CPU, for all that this experiment computes at a time.
        training: the tasks that are trained on; None unless the split train was asked for.
    """

    recipe: Recipe
    device: torch.device
    dtype: torch.dtype
    network: Network
    distributions: dict[str, TaskDistribution]
    data: Mapping[str, object]
    num_threads: int = 1
    training: TaskDistribution | None = None

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
        )
        return MetaObjective(self.network, replace(loop, transform=self._transform(loop.adapted)))

    def objective(self, num_steps: int | None = None) -> MetaObjective:
        """Return network and inner loop, with `inner.steps` steps or as many as given."""
        made = self._objective
        if num_steps is None or num_steps == made.inner.num_inner_steps:
            return made
        return replace(made, inner=replace(made.inner, num_inner_steps=num_steps))

    def _transform(self, adapted: tuple[str, ...]) -> GradientTransform:
        spec = self.recipe.inner.transform
        if spec.name == "none":
            return Identity()
        names = select_names(adapted, spec.parameters, where="inner.transform.parameters")
        transform = transform_for(spec)
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

    def initial_meta(self) -> MetaParams:
        """Return the meta-parameters before training."""
        model = initial_params(
            self.network,
            init=self.recipe.model.init,
            seed=self.recipe.seed,
            dtype=self.dtype,
            device=self.device,
        )
        inner = self.objective().inner
        adapted = {name: model[name] for name in inner.adapted}
        return MetaParams(model, inner.transform.init(adapted, self.recipe.seed))

    def outer_loop(self) -> OuterLoop:
        """Return the settings of the outer loop."""
        outer, validation = self.recipe.outer, self.recipe.validation
        return OuterLoop(
            num_outer_steps=outer.iterations,
            lr=outer.lr,
            optimizer=outer.optimizer,
            schedule=outer.schedule,
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
            self.objective(),
            device=self.device,
            dtype=self.dtype,
            num_threads=self.num_threads,
            num_tasks=num_tasks,
            num_steps=num_steps,
        )

    def use_threads(self) -> None:
        """Set the threads of this process to what suits the experiment; nothing where the device is not the CPU.

        Call it before anything of the experiment is computed: in another number of threads, sums may round otherwise.
        """
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


def build(recipe: Recipe, *, splits: tuple[str, ...]) -> Experiment:
    """Turn a recipe into objects, checking all that only data and device can tell.

    Args:
        recipe: resolved.
        splits: the splits that will be used; only those need be present in the data.

    Raises:
        DeviceError, DataError, MamlError: with the key to change or the command to run.
    """
    device = resolve_device(recipe.execution.device)
    dtype = getattr(torch, recipe.execution.dtype)
    distributions, training, data = build_tasks(recipe, splits=splits, device=device, dtype=dtype)
    first = next(iter(distributions.values()))
    network = build_network(recipe, first.input_shape, first.num_outputs)
    num_threads = threads_for(recipe, device)
    experiment = Experiment(recipe, device, dtype, network, distributions, data, num_threads, training)
    experiment.objective()  # parameter patterns and transforms are checked here, before anything runs
    if recipe.inner.memory == "constant" and device.type == "cpu":
        give_back_large_blocks()
    return experiment


def build_without_data(recipe: Recipe, *, input_shape: tuple[int, ...], num_outputs: int) -> Experiment:
    """Turn a recipe into the network and inner loop of a trained run, whose data need not be here.

    Args:
        recipe: resolved.
        input_shape, num_outputs: of the network; elsewhere they come from the data.

    Raises:
        DeviceError: this machine does not have the recipe's device.
    """
    device, dtype = resolve_device(recipe.execution.device), getattr(torch, recipe.execution.dtype)
    network = build_network(recipe, input_shape, num_outputs)
    return Experiment(recipe, device, dtype, network, {}, {}, threads_for(recipe, device))


def build_network(recipe: Recipe, input_shape: tuple[int, ...], num_outputs: int) -> Network:
    """Return the network of `recipe.model` for inputs and outputs of these shapes."""
    keys = recipe.model.model_dump(exclude={"kind", "init"})
    make = {"cnn": cnn, "mlp": mlp, "linear": linear}[recipe.model.kind]
    return make(input_shape, num_outputs, **keys)  # type: ignore[operator,no-any-return]


def transform_for(spec: Transform) -> GradientTransform:
    """Return the gradient transform that `inner.transform` names."""
    by_name = transforms_by_name(hidden_layers=spec.hidden_layers, hidden_width=spec.hidden_width)
    return by_name[spec.name]
