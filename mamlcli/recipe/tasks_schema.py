"""The sections of a recipe for tasks say the keys of every source, with types, bounds, defaults and meanings."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from mamlcli.common.names import Augmentation, ImageSource
from mamlcli.common.words import no_path
from mamlcli.recipe.section import Examples, NonNegative, Rate, Section, Seed, Ways, Width


class ClassKeys(Section):
    """Keys of sources whose tasks are drawn from classes of examples; shots and queries count those of each class."""

    is_classification: ClassVar[bool] = True

    ways: Ways = Field(5, description="classes of a task, N")
    shots: Examples = Field(1, description="support images of each class, K")
    queries: Examples = Field(5, description="query images of each class")


class ImageKeys(ClassKeys):
    """Keys that every image source has."""

    path: str | None = Field(
        None, description="file of the pack, if not the one found by name; for folder also the folder"
    )
    split_seed: Seed = Field(0, description="seed of class splits drawn at random; not the seed of the run")
    rotations: bool = Field(
        False,
        description="whether every class turned by 90, 180 and 270 degrees is a class of its own, too, in all splits",
    )
    held_back: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0,
        description="meta-train classes, drawn by split_seed, that are kept out of training and used by "
        "meta-validation instead of its own; a class and its rotations count as one",
    )
    augment: list[Augmentation] = Field(
        [],
        description="random changes of the colour images of meta-training, and of no others; flip: left and right "
        "exchanged; crop: a piece cut out of the padded image; colour: other brightness, contrast and saturation",
    )

    @field_validator("path")
    @classmethod
    def _can_be_a_path(cls, value: str | None) -> str | None:
        if value is not None and (problem := no_path(value)):
            raise ValueError(f"expected {problem}")
        return value

    @field_validator("augment", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("augment")
    @classmethod
    def _each_once(cls, value: list[Augmentation]) -> list[Augmentation]:
        if len(set(value)) < len(value):
            raise ValueError("expected each name once")
        return value


class ImageTasks(ImageKeys):
    """N-way K-shot tasks drawn from a pack of images."""

    source: ImageSource
    class_split: Literal["published", "vinyals", "seeded", "scripts"] | None = Field(
        None,
        description="lists of classes of each split; the source's own by default; omniglot has vinyals and seeded",
    )


class FolderTasks(ImageKeys):
    """N-way K-shot tasks from a folder of class folders, or from a pack made of one."""

    source: Literal["folder"]
    class_split: Literal["folders", "seeded"] | None = Field(
        None,
        description="origin of the splits; folders: train, val and test below the path (the default "
        "where they are); seeded: drawn by split_seed, 64, 16 and 20 %, or so that each split that is used has enough",
    )
    small_classes: Literal["leave-out", "refuse"] = Field(
        "leave-out",
        description="treatment of classes with too few images for a task; leave-out: no task has them, and the "
        "run says so; refuse: it is an error",
    )
    image_size: Annotated[int, Field(ge=8, le=512)] = Field(
        84, description="side to which images are resized, in pixels"
    )
    channels: Literal[1, 3] = Field(3, description="colour channels: 1 for grey, 3 for colour")
    invert: Literal["auto", "yes", "no"] = Field(
        "no",
        description="whether grey levels are inverted, dark ink on white to light on black; auto: "
        "where the border is bright",
    )
    class_level: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None,
        description="depth of the class folders in the path, or in its folders train, val and test; 1: right there; "
        "2: in folders of groups; null: found out, or refused where it is not clear",
    )

    @field_validator("invert", mode="before")
    @classmethod
    def _yes_is_a_word_here(cls, value: object) -> object:
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value  # YAML reads yes as true


class SyntheticKeys(Section):
    """Keys that every synthetic source has. Its shots and queries count points of a task, not per class."""

    is_classification: ClassVar[bool] = False

    shots: Examples = Field(10, description="support points of a task")
    queries: Examples = Field(10, description="query points of a task")


class InputKeys(SyntheticKeys):
    """Keys of tasks whose inputs are Gaussian."""

    dimension: Width = Field(10, description="number of inputs")
    condition_number: Annotated[float, Field(ge=1, le=1e30, allow_inf_nan=False)] = Field(
        1.0, description="ratio of the largest to the smallest eigenvalue of the input covariance; the largest is 1"
    )
    weight_scale: Rate = Field(1.0, description="standard deviation of each true weight under the task prior")


class LinearRegressionTasks(InputKeys):
    """y = t.x + noise."""

    source: Literal["linear-regression"]
    noise: NonNegative = Field(0.0, description="standard deviation of the label noise")


class LogisticTasks(InputKeys):
    """Two classes, P(y = 1) = sigmoid(t.x), labels flipped with probability `label_noise`."""

    is_classification: ClassVar[bool] = True

    source: Literal["logistic"]
    label_noise: Annotated[float, Field(ge=0, lt=0.5)] = Field(0.0, description="probability of a flipped label")


class SinusoidTasks(SyntheticKeys):
    """y = amplitude * sin(x - phase)."""

    source: Literal["sinusoid"]
    noise: NonNegative = Field(0.0, description="standard deviation of the label noise")


class GivenClassTasks(ClassKeys):
    """N-way K-shot tasks from examples that are given from Python: mamlcli.few_shot_tasks."""

    source: Literal["python-classes"]


class GivenTasks(Section):
    """Tasks of an object that is given from Python, which has a method sample; it sets these keys itself."""

    source: Literal["python"]
    classes: Ways | None = Field(None, description="number of classes of a task; null for regression")
    shots: Examples = Field(10, description="support examples of a task")
    queries: Examples = Field(10, description="query examples of a task")

    @property
    def is_classification(self) -> bool:
        return self.classes is not None


Tasks = Annotated[
    ImageTasks | FolderTasks | LinearRegressionTasks | LogisticTasks | SinusoidTasks | GivenClassTasks | GivenTasks,
    Field(discriminator="source"),
]


def ways_of(tasks: Tasks) -> int | None:
    """Return the number of classes of a task; None for regression."""
    if isinstance(tasks, ClassKeys):
        return tasks.ways
    if isinstance(tasks, GivenTasks):
        return tasks.classes
    if (num_classes := getattr(tasks, "num_classes", None)) is not None:  # of a plug-in
        return int(num_classes)
    return 2 if tasks.is_classification else None
