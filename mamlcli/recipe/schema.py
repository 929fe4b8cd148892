"""The schema of recipes says every key there is, with its type, bounds, default and meaning.

A recipe is a tree of closed sets of names and numbers, never a Python path, so that all of it can be checked
without building anything. The sections for tasks are in `tasks_schema`; the rules that join several keys in `rules`.
"""

from __future__ import annotations

import typing
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mamlcli.common.names import CLASS_SPLITS, HELD_BACK, TransformName
from mamlcli.common.plugins import NO_TRACKER, OWN_TRACKERS
from mamlcli.recipe.model_schema import Model
from mamlcli.recipe.plugins import WRITTEN, or_plugin
from mamlcli.recipe.reference_schema import Reference
from mamlcli.recipe.section import (
    Depth,
    Examples,
    MetaBatch,
    NonNegative,
    Patterns,
    Positive,
    Rate,
    Scored,
    Section,
    Seed,
    Several,
    Steps,
    Trackers,
    Ways,
    Width,
)
from mamlcli.recipe.tasks_schema import ImageKeys, ImageTasks, Tasks

Split = Literal["train", "validation", "test", "held-back"]


def _parts(union: object) -> tuple[type[Section], ...]:
    """Return the sections of a union whose tag chooses."""
    return typing.get_args(typing.get_args(union)[0])


class Transform(Section):
    """The gradient transform, the paper's meta-optimizer."""

    name: Literal[TransformName, "python"] = Field(
        "none",
        description="name of the gradient transform U_xi; none: plain gradients, as in MAML; python: given from Python",
    )
    parameters: Patterns = Field(["*"], description="patterns of the parameter names that are transformed")
    adapted: bool = Field(
        False,
        description="whether the meta-parameters xi take a gradient step of their own from the second inner step on",
    )
    hidden_layers: Depth = Field(2, description="hidden layers of kfo-mlp")
    hidden_width: Width | None = Field(
        None, description="rows of the hidden matrices of kfo-mlp; by default those of the gradient"
    )


class Inner(Section):
    """The inner loop: how a network adapts to one task."""

    algorithm: Literal["maml", "fomaml", "anil", "boil"] = Field(
        "maml",
        description="algorithm: all parameters adapt (maml, fomaml), the head alone (anil) or the body alone (boil); "
        "fomaml is maml in first order",
    )
    lr: Rate = Field(0.1, description="inner learning rate, alpha")
    steps: Steps = Field(5, description="inner steps of meta-training, K")
    rates: Literal["fixed", "tensor", "step", "tensor-step"] = Field(
        "fixed",
        description="learned inner rates, all inner.lr at the start; tensor: one for each parameter tensor; "
        "step: one for each inner step; tensor-step: one for each tensor at each step; fixed: none",
    )
    first_order: bool = Field(
        False, description="whether inner gradients are taken as constants; always true for fomaml"
    )
    adapt: Patterns | None = Field(
        None, description="patterns of the parameter names that adapt; by default the algorithm's"
    )
    joint_features: bool = Field(
        False, description="for anil, whether support and query pass the body in one batch, as in the paper's release"
    )
    head: Literal["learned", "zero", "shared"] = Field(
        "learned",
        description="start of the output layer on every task; learned: a row for each class is meta-learned; zero: all "
        "zeros; shared: one row for all classes, which softmax does not see, so that scores are those of zero. With "
        "both the order of the classes does not matter, and own images may be of more classes than tasks.ways, unless "
        "the transform's meta-parameters have the ways in their shape",
    )
    memory: Literal["unrolled", "constant"] = Field(
        "unrolled",
        description="memory of the inner loop; constant: only the weights of each step are kept, "
        "and the step is computed again to differentiate",
    )
    transform: Annotated[Transform, or_plugin("inner.transform", Transform), WRITTEN] = Field(
        Transform(), description="gradient transform (meta-optimizer); its name alone is enough"
    )

    @field_validator("transform", mode="before")
    @classmethod
    def _name_is_enough(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class Outer(Section):
    """The outer loop: how the initialisation is learned."""

    optimizer: Literal["adam", "sgd"] = Field("adam", description="outer optimizer")
    lr: Rate = Field(1e-3, description="outer learning rate, beta")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="schedule of the outer learning rate; cosine: falls to outer.lr_min at the end"
    )
    lr_min: NonNegative = Field(0.0, description="outer learning rate at the end of the cosine schedule")
    weight_decay: NonNegative = Field(
        0.0, description="decoupled weight decay (AdamW) of the initialisation; a transform's parameters have none"
    )
    multi_step_loss: Positive | None = Field(
        None,
        description="meta-iterations in which the outer loss is a weighted sum over the inner steps; the weights go "
        "from equal to the last step alone; where they are more than outer.iterations, training ends before; null for "
        "the last step alone throughout",
    )
    iterations: Positive = Field(1000, description="meta-iterations")
    tasks: MetaBatch = Field(16, description="tasks of a meta-batch")
    clip_norm: Rate | None = Field(None, description="largest norm of the meta-gradient; null for no clipping")
    checkpoint_every: Positive = Field(200, description="iterations between checkpoints")


class Validation(Section):
    """Meta-validation while training: it chooses the best checkpoint."""

    every: Positive | None = Field(200, description="iterations between validations; null for none")
    tasks: Scored = Field(100, description="tasks of one validation, the same every time")
    metric: Literal["accuracy", "loss"] | None = Field(
        None, description="metric by which weights are best; by default accuracy, for regression loss"
    )
    patience: Positive | None = Field(None, description="validations without a new best before stopping early")


class Evaluation(Section):
    """The meta-test protocol; meta-validation scores by it, too, but for split, number of tasks and steps."""

    split: Split = Field("test", description="split that is scored; held-back: the classes of tasks.held_back")
    tasks: Several = Field(600, description="number of tasks that are scored")
    ways: Ways | None = Field(
        None, description="classes of a task that is scored, of images only; by default tasks.ways"
    )
    shots: Examples | None = Field(
        None, description="support examples of a task that is scored, counted as in tasks; by default tasks.shots"
    )
    queries: Examples | None = Field(
        None, description="query examples of a task that is scored, counted as in tasks; by default tasks.queries"
    )
    batch_norm: Literal["joint", "support"] = Field(
        "joint",
        description="images whose statistics the batch norm of query images takes; joint: the query images of "
        "the task (transductive), as in meta-training; support: the support set alone, so that no prediction "
        "depends on another query image",
    )
    steps: Steps | None = Field(None, description="inner steps; by default those of training")
    seed: Seed = Field(
        0, description="seed of the tasks that are scored; the same for all runs that are to be compared"
    )


class Execution(Section):
    """How results are computed; no key changes them beyond rounding."""

    device: str = Field(
        "auto",
        description="device; auto: CUDA where there is one, else the CPU; mps: the GPU of a Mac",
        pattern=r"^(auto|cpu|cuda(:\d{1,3})?|mps)$",
        examples=["auto", "cpu", "cuda", "mps"],
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="number type of parameters and inputs")
    path: Literal["auto", "loop", "batched", "explicit"] = Field(
        "auto",
        description="way to compute tasks; loop: one by one; batched: by vmap; explicit: as one "
        "tensor, with derivatives written out; auto: explicit where all layers have it, else batched",
    )
    chunk: MetaBatch | None = Field(
        None, description="tasks at a time, unless path=loop; by default what fits the memory"
    )
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="whether the explicit path goes through torch.compile; auto is the same as false",
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="CPU threads; by default 1 for tiny models, else torch's choice"
    )
    worker_timeout: Annotated[int, Field(ge=1, le=86_400)] = Field(
        60,
        description="seconds without a sign of life after which a worker, of --workers or torchrun, is lost and the "
        "run ends; it can be resumed",
    )

    @field_validator("compile", mode="before")
    @classmethod
    def _auto_or_not(cls, value: object) -> object:
        if value != "auto" and not isinstance(value, bool):
            raise ValueError("expected auto, true or false")
        return value


class Recipe(Section):
    """One experiment, complete."""

    seed: Seed = Field(0, description="seed of the initialisation and of the training tasks")
    tasks: Annotated[Tasks, or_plugin("tasks", *_parts(Tasks)), WRITTEN]
    model: Annotated[Model, or_plugin("model", *_parts(Model)), WRITTEN]
    inner: Inner = Inner()
    outer: Outer = Outer()
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()
    execution: Execution = Execution()
    logging: Trackers = Field(
        [NO_TRACKER],
        description="trackers that are told of the run; tensorboard: event files; csv: tables, both in the run's "
        "folder; mlflow: the folder mlruns, or what MLFLOW_TRACKING_URI names; installed packages add names by the "
        "entry point mamlcli.trackers",
        examples=[NO_TRACKER, *OWN_TRACKERS],
    )
    reference: Reference | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_a_mapping(cls, value: object) -> object:
        if not isinstance(value, dict):
            raise ValueError(f"expected keys and values (tasks, model, inner, ...), got {type(value).__name__}")
        return value

    def resolved(self) -> Recipe:
        """Return the recipe with every default that depends on other keys filled in."""
        inner = self.inner.model_copy(
            update={"first_order": self.inner.first_order or self.inner.algorithm == "fomaml"}
        )
        evaluation = self.evaluation.model_copy(update={"steps": self.evaluation.steps or self.inner.steps})
        tasks = self.tasks
        if isinstance(tasks, ImageTasks) and tasks.class_split is None:
            tasks = tasks.model_copy(update={"class_split": CLASS_SPLITS[tasks.source][0]})
        metric = self.validation.metric or ("accuracy" if self.is_classification else "loss")
        validation = self.validation.model_copy(update={"metric": metric})
        changes = {"inner": inner, "evaluation": evaluation, "tasks": tasks, "validation": validation}
        return self.model_copy(update=changes)

    def without_reference(self) -> Recipe:
        """Return what is run, without the number that the recipe as it stands should reproduce."""
        return self.model_copy(update={"reference": None})

    @property
    def is_classification(self) -> bool:
        return self.tasks.is_classification

    @property
    def scored_tasks(self) -> Tasks:
        """The tasks that are scored: those of `tasks` without augmentation, of the sizes that `evaluation` gives."""
        given = self.evaluation.model_dump(include={"ways", "shots", "queries"}, exclude_none=True)
        if isinstance(self.tasks, ImageKeys):
            given["augment"] = []
        return self.tasks.model_copy(update=given)

    def scored_key(self, name: str) -> str:
        """Return the dotted key that the ways, shots or queries of a task that is scored come from."""
        return f"{'tasks' if getattr(self.evaluation, name) is None else 'evaluation'}.{name}"

    @property
    def validation_split(self) -> str:
        """The split whose classes meta-validation draws its tasks from."""
        is_held_back = isinstance(self.tasks, ImageKeys) and self.tasks.held_back > 0
        return HELD_BACK if is_held_back else "validation"
