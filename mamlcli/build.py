"""Recipe -> objects and named random generators; the one place where both are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mamlcli.engine import OuterLoop
from mamlcli.errors import DataError, MamlError
from mamlcli.estimators import MetaObjective, MetaParams, inner_loop_for
from mamlcli.execution import Execution, give_back_large_blocks
from mamlcli.models import Network, cnn, initial_params, linear, mlp, select_names
from mamlcli.placement import execution_for, resolve_device, set_threads, threads_for, tuning_key_for
from mamlcli.recipe import (
    FolderTasks,
    ImageTasks,
    Recipe,
    Transform,
)
from mamlcli.tasks.base import TaskDistribution
from mamlcli.tasks.class_splits import class_split
from mamlcli.tasks.fewshot import device_images, fewshot_tasks
from mamlcli.tasks.glyphs import load_glyphs
from mamlcli.tasks.images import image_record
from mamlcli.tasks.packs import Pack, find_pack, load_pack, pack_digest
from mamlcli.tasks.sources import pack_of_tree
from mamlcli.tasks.synthetic import SYNTHETIC
from mamlcli.transforms import GradientTransform, Identity, Selected, transforms_by_name

# A dense transform holds the square of a tensor's entries; above this it would not fit beside the model.
MAX_DENSE_ENTRIES = 4096


@dataclass(frozen=True)
class Experiment:
    """Everything a run needs, built from a recipe.

    Attributes:
        recipe: resolved.
        device, dtype: where and in what precision.
        network: the architecture.
        distributions: the task distribution of each split asked for.
        data: what the tasks come from, primitives, for the manifest.
        num_threads: of the CPU, for all that this experiment computes at a time.
    """

    recipe: Recipe
    device: torch.device
    dtype: torch.dtype
    network: Network
    distributions: dict[str, TaskDistribution]
    data: dict[str, Any]
    num_threads: int = 1

    @cached_property
    def _objective(self) -> MetaObjective:
        """Network and inner loop with `inner.steps` steps, made once for an experiment."""
        inner = self.recipe.inner
        loop = inner_loop_for(
            inner.algorithm,
            self.network,
            lr=inner.lr,
            num_steps=inner.steps,
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
        if num_steps is None or num_steps == made.inner.num_steps:
            return made
        return replace(made, inner=replace(made.inner, num_steps=num_steps))

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
                    "inner.transform.name", expected="another transform than dense for a model this large",
                    got=f"{largest} with {sizes[largest]} entries, above {MAX_DENSE_ENTRIES}",
                    why="dense learns the square of that",
                    next_step="Use inner.transform=kfo, or choose small tensors with inner.transform.parameters",
                )  # fmt: skip
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
    """Turn a recipe into objects, checking all that only data and device can tell; set this process's threads.

    Args:
        recipe: resolved.
        splits: the splits that will be used; only those need be present in the data.

    Raises:
        DeviceError, DataError, MamlError: with the key to change or the command to run.
    """
    device = resolve_device(recipe.execution.device)
    dtype = getattr(torch, recipe.execution.dtype)
    distributions, data = build_tasks(recipe, splits=splits, device=device, dtype=dtype)
    first = next(iter(distributions.values()))
    network = build_network(recipe, first.input_shape, first.num_outputs)
    num_threads = threads_for(recipe, device)
    experiment = Experiment(recipe, device, dtype, network, distributions, data, num_threads)
    experiment.objective()  # parameter patterns and transforms are checked here, before anything runs
    if recipe.inner.memory == "constant" and device.type == "cpu":
        give_back_large_blocks()
    _set_threads(experiment)
    return experiment


def build_without_data(recipe: Recipe, *, input_shape: tuple[int, ...], num_outputs: int) -> Experiment:
    """Turn a recipe into the network and inner loop of a trained run, whose data need not be here; set the threads.

    Args:
        recipe: resolved.
        input_shape, num_outputs: of the network; elsewhere they come from the data.

    Raises:
        DeviceError: this machine does not have the recipe's device.
    """
    device, dtype = resolve_device(recipe.execution.device), getattr(torch, recipe.execution.dtype)
    network = build_network(recipe, input_shape, num_outputs)
    experiment = Experiment(recipe, device, dtype, network, {}, {}, threads_for(recipe, device))
    _set_threads(experiment)
    return experiment


def _set_threads(experiment: Experiment) -> None:
    """Set the threads of one operation in this process to what suits the experiment's meta-batches."""
    recipe = experiment.recipe
    how = experiment.execution(num_tasks=recipe.outer.tasks, num_steps=recipe.inner.steps)
    set_threads(recipe, experiment.network, how, experiment.device)


def build_network(recipe: Recipe, input_shape: tuple[int, ...], num_outputs: int) -> Network:
    """Return the network of `recipe.model` for inputs and outputs of these shapes."""
    keys = recipe.model.model_dump(exclude={"kind", "init"})
    make = {"cnn": cnn, "mlp": mlp, "linear": linear}[recipe.model.kind]
    return make(input_shape, num_outputs, **keys)  # type: ignore[operator,no-any-return]


def transform_for(spec: Transform) -> GradientTransform:
    """Return the gradient transform that `inner.transform` names."""
    by_name = transforms_by_name(hidden_layers=spec.hidden_layers, hidden_width=spec.hidden_width)
    return by_name[spec.name]


def build_tasks(
    recipe: Recipe, *, splits: tuple[str, ...], device: torch.device, dtype: torch.dtype
) -> tuple[dict[str, TaskDistribution], dict[str, Any]]:
    """Return the task distribution of each split, and what the data is (for the manifest)."""
    tasks = recipe.tasks
    if isinstance(tasks, ImageTasks | FolderTasks):
        return _image_tasks(recipe, tasks, splits=splits, device=device, dtype=dtype)
    keys = tasks.model_dump(exclude={"source"})
    distribution: TaskDistribution = SYNTHETIC[tasks.source](**keys, dtype=dtype, device=device)
    # A synthetic split is a stream of tasks of its own; the distribution is the same.
    return dict.fromkeys(splits, distribution), {"source": tasks.source, "generated": True}


def _image_tasks(
    recipe: Recipe,
    tasks: ImageTasks | FolderTasks,
    *,
    splits: tuple[str, ...],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[dict[str, TaskDistribution], dict[str, Any]]:
    pack, where, skipped = load_image_pack(tasks)
    names = class_split(tasks.source, pack, split_name=tasks.class_split, seed=tasks.split_seed)
    images = device_images(pack, device)
    distributions: dict[str, TaskDistribution] = {
        split: fewshot_tasks(
            pack, images, names[split], where=f"{where}, {split} split", ways=tasks.ways, shots=tasks.shots,
            queries=tasks.queries, rotations=tasks.rotations, dtype=dtype,
        )
        for split in splits
    }  # fmt: skip
    data = {
        "source": tasks.source,
        "pack": where,
        "num_images": len(pack.images),
        "num_classes": pack.num_classes,
        "digest": pack_digest(pack),
        "preprocessing": pack.source.to_json(),
        "images": record.to_dict() if (record := image_record(pack)) else None,
        "skipped": skipped,
    }
    return distributions, data


def load_image_pack(tasks: ImageTasks | FolderTasks) -> tuple[Pack, str, list[tuple[str, str]]]:
    """Return the pack of an image source, where it came from, and (file, reason) of files not taken.

    Raises:
        DataError: there is none; the message names the commands that make one.
    """
    if tasks.path is not None:
        path = Path(tasks.path).expanduser()
        if isinstance(tasks, FolderTasks) and path.is_dir():
            pack, skipped = pack_of_tree(
                "folder", path, size=tasks.image_size, channels=tasks.channels, invert=tasks.invert
            )
            return pack, str(path), skipped
        if isinstance(tasks, FolderTasks) and not path.exists():
            raise DataError("tasks.path", expected="a folder of class folders, or a pack",
                            got=f"{tasks.path!r}, which does not exist")  # fmt: skip
        return load_pack(path), str(path), []
    if tasks.source == "glyphs":
        return load_glyphs(), "glyphs", []
    if isinstance(tasks, FolderTasks):
        raise DataError("tasks.path", expected="a folder of class folders, or a pack", got="nothing",
                        next_step="Run: mamlcli train folder tasks.path=DIR")  # fmt: skip
    found = find_pack(tasks.source)
    if found is None:
        raise DataError(
            "tasks.source", expected=f"a pack {tasks.source}.npz in $MAMLCLI_DATA or the cache folder", got="none",
            next_step=f"Run: mamlcli data fetch {tasks.source}, or: mamlcli data import {tasks.source} PATH",
        )  # fmt: skip
    return load_pack(found), str(found), []
