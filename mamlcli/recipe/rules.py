"""A table says here which keys of a recipe do not go together; the check and the reference both read it.

What a network cannot be is found by `network_rules`; what only the data can tell, such as classes that a split lacks,
is checked where it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mamlcli.common.names import CLASS_SPLITS, GREY_SOURCES, HELD_BACK
from mamlcli.common.words import brief
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.network_rules import network_conflicts
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ClassKeys, GivenTasks, ImageKeys, SyntheticKeys


@dataclass(frozen=True)
class Rule:
    """Says of several keys how they go together.

    Attributes:
        key: the dotted key that an error names.
        sentence: the rule in words, Markdown, for the reference.
        is_broken: whether a recipe breaks the rule.
        expected: what the key should have been; `{section.key}` stands for a value of the recipe, `{class_splits}` for
            the names of class splits that its source has, `{scored.key}` for a key of the tasks that are scored.
    """

    key: str
    sentence: str
    is_broken: Callable[[Recipe], bool]
    expected: str

    def problem(self, recipe: Recipe) -> str:
        """Return what was expected of the key and what a recipe has, as an error says it."""
        splits = " or ".join(CLASS_SPLITS.get(recipe.tasks.source, ()))
        expected = self.expected.format(**dict(recipe), class_splits=splits, scored=recipe.scored_tasks)
        return f"expected {expected}, got {_quoted(_value(recipe, self.key))}."


def conflicts(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the keys of a recipe that do not go together, each with what was expected and what it is."""
    found = [(rule.key, rule.problem(recipe)) for rule in RULES if rule.is_broken(recipe)]
    keys = {key for key, _ in found}
    return [*found, *((key, text) for key, text in network_conflicts(recipe) if key not in keys)]


def _value(recipe: Recipe, key: str) -> object:
    value: object = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _quoted(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else brief(value)


def _is_beyond(recipe: Recipe) -> bool:
    reference, steps = recipe.reference, recipe.evaluation.steps or recipe.inner.steps
    return reference is not None and (reference.steps or 0) > steps


def _is_of_other_tasks(recipe: Recipe) -> bool:
    reference = recipe.reference
    return reference is not None and (reference.metric == "accuracy") != recipe.is_classification


def _is_no_percentage(recipe: Recipe) -> bool:
    reference = recipe.reference
    return reference is not None and reference.metric == "accuracy" and reference.value > 100


def _is_inexact_fomaml(recipe: Recipe) -> bool:
    # Only where it was written: resolving the recipe fills it in.
    is_written = "first_order" in recipe.inner.model_fields_set
    return recipe.inner.algorithm == "fomaml" and is_written and not recipe.inner.first_order


def _has_rates_without_gradient(recipe: Recipe) -> bool:
    inner, model = recipe.inner, recipe.model
    is_idle = inner.head != "learned" and inner.steps == 1
    # Patterns may choose the output layer alone; the names they match are known with the network only.
    if isinstance(model, OutsideModel):
        return is_idle and "tensor" in inner.rates and inner.algorithm != "anil" and inner.adapt is None
    adapts_below = model.linear_layers > 0 or (model.depth > 1 if model.kind == "linear" else inner.algorithm != "anil")
    return is_idle and "tensor" in inner.rates and inner.adapt is None and adapts_below


def _has_another_class_split(recipe: Recipe) -> bool:
    split = getattr(recipe.tasks, "class_split", None)
    return split is not None and split not in CLASS_SPLITS[recipe.tasks.source]


def _needs_batch_norm(recipe: Recipe) -> bool:
    return recipe.evaluation.batch_norm == "support" and getattr(recipe.model, "norm", "none") != "batch"


def _holds_too_few_back(recipe: Recipe) -> bool:
    tasks = recipe.scored_tasks
    return isinstance(tasks, ImageKeys) and 0 < tasks.held_back * (4 if tasks.rotations else 1) < tasks.ways


def _has_too_many_ways(recipe: Recipe) -> bool:
    ways, tasks = recipe.evaluation.ways, recipe.tasks
    return ways is not None and recipe.inner.head == "learned" and isinstance(tasks, ClassKeys) and ways > tasks.ways


def _augments_grey_images(recipe: Recipe) -> bool:
    tasks = recipe.tasks
    is_grey = tasks.source in GREY_SOURCES or getattr(tasks, "channels", 3) == 1
    return isinstance(tasks, ImageKeys) and bool(tasks.augment) and is_grey


RULES = (
    Rule(
        "model.kind",
        "`model.kind=cnn` needs images: a source of images, or `folder`.",
        lambda recipe: recipe.model.kind == "cnn" and isinstance(recipe.tasks, SyntheticKeys),
        "mlp or linear for tasks.source={tasks.source}",
    ),
    Rule(
        "inner.joint_features",
        "`inner.joint_features=true` needs `inner.algorithm=anil`.",
        lambda recipe: recipe.inner.joint_features and recipe.inner.algorithm != "anil",
        "false unless inner.algorithm=anil",
    ),
    Rule(
        "inner.first_order",
        "`inner.algorithm=fomaml` does not go with `inner.first_order=false`.",
        _is_inexact_fomaml,
        "true for inner.algorithm=fomaml",
    ),
    Rule(
        "inner.algorithm",
        "`inner.algorithm=boil` does not go with `model.kind=linear`: all of its layers are the head.",
        lambda recipe: recipe.inner.algorithm == "boil" and recipe.model.kind == "linear",
        "maml, fomaml or anil for model.kind=linear, which has no body to adapt",
    ),
    Rule(
        "inner.head",
        "`inner.head=zero` or `shared` does not go with `inner.algorithm=boil`: the output layer has to adapt.",
        lambda recipe: recipe.inner.head != "learned" and recipe.inner.algorithm == "boil",
        "learned for inner.algorithm=boil, whose output layer does not adapt and would stay the same for all classes",
    ),
    Rule(
        "inner.head",
        "`inner.head=shared` needs classification.",
        lambda recipe: recipe.inner.head == "shared" and not recipe.is_classification,
        "learned or zero for tasks.source={tasks.source}, which has no classes to share a row",
    ),
    Rule(
        "inner.transform.adapted",
        "`inner.transform.adapted=true` needs a transform.",
        lambda recipe: recipe.inner.transform.adapted and recipe.inner.transform.name == "none",
        "false for inner.transform.name=none",
    ),
    Rule(
        "inner.rates",
        "`inner.rates` is fixed with `inner.transform.adapted=true`: what a step does to the transform has the rate "
        "`inner.lr`, and would also change the rates of inner steps that have already been taken.",
        lambda recipe: recipe.inner.rates != "fixed" and recipe.inner.transform.adapted,
        "fixed for inner.transform.adapted=true, which would also change the rates of inner steps already taken",
    ),
    Rule(
        "inner.rates",
        "`inner.rates=tensor` or `tensor-step` does not go with one inner step and `inner.head=zero` or `shared`, if "
        "layers below the output layer adapt: their gradient is zero in the first step, and their rates would never be "
        "learned.",
        _has_rates_without_gradient,
        "fixed or step for inner.head={inner.head} and inner.steps=1: layers below the output layer have no gradient "
        "in the first step, and their rates would never be learned",
    ),
    Rule(
        "outer.schedule",
        "`outer.schedule=constant` does not go with `outer.lr_min` above 0, where the cosine schedule ends.",
        lambda recipe: recipe.outer.lr_min > 0 and recipe.outer.schedule == "constant",
        "cosine for outer.lr_min={outer.lr_min}, where that schedule ends",
    ),
    Rule(
        "outer.lr_min",
        "`outer.lr_min` is at most `outer.lr`.",
        lambda recipe: recipe.outer.lr_min > recipe.outer.lr,
        "at most outer.lr={outer.lr}, where the schedule begins",
    ),
    Rule(
        "outer.weight_decay",
        "`outer.weight_decay` times `outer.lr` is below 1: a step multiplies each weight by 1 minus this product.",
        lambda recipe: recipe.outer.lr * recipe.outer.weight_decay >= 1,
        "less than 1 divided by outer.lr={outer.lr}, since a step multiplies each weight by 1 - lr * weight_decay",
    ),
    Rule(
        "outer.multi_step_loss",
        "`outer.multi_step_loss` needs two inner steps or more: with one, there is one loss.",
        lambda recipe: recipe.outer.multi_step_loss is not None and recipe.inner.steps == 1,
        "null for inner.steps=1, which has one loss",
    ),
    Rule(
        "execution.path",
        "`inner.memory=constant` needs `execution.path` auto, explicit or loop.",
        lambda recipe: recipe.inner.memory == "constant" and recipe.execution.path == "batched",
        "auto, explicit or loop for inner.memory=constant",
    ),
    Rule(
        "execution.compile",
        "`execution.compile=true` needs `execution.path` auto or explicit.",
        lambda recipe: recipe.execution.compile is True and recipe.execution.path in ("loop", "batched"),
        "false for execution.path={execution.path}",
    ),
    Rule(
        "execution.cuda_graphs",
        "`execution.cuda_graphs=on` needs `execution.path` auto or explicit.",
        lambda recipe: recipe.execution.cuda_graphs == "on" and recipe.execution.path in ("loop", "batched"),
        "auto or off for execution.path={execution.path}",
    ),
    Rule(
        "execution.chunk",
        "`execution.chunk` is at most `outer.tasks`.",
        lambda recipe: (recipe.execution.chunk or 0) > recipe.outer.tasks,
        "at most outer.tasks={outer.tasks}",
    ),
    Rule(
        "reference.metric",
        "`reference.metric` is accuracy for classification, squared-error for regression.",
        _is_of_other_tasks,
        "the metric of tasks.source={tasks.source}: accuracy for classes, squared-error for points",
    ),
    Rule(
        "reference.value",
        "`reference.value` is at most 100 where it is an accuracy.",
        _is_no_percentage,
        "an accuracy in per cent",
    ),
    Rule(
        "reference.steps",
        "`reference.steps` is at most `evaluation.steps`.",
        _is_beyond,
        "at most the inner steps that are scored (evaluation.steps)",
    ),
    Rule(
        "validation.metric",
        "`validation.metric=accuracy` needs classification.",
        lambda recipe: recipe.validation.metric == "accuracy" and not recipe.is_classification,
        "loss for tasks.source={tasks.source}",
    ),
    Rule(
        "tasks.class_split",
        "`tasks.class_split` must be one of the source's:"
        + "".join(f"\n  - {source}: {', '.join(names)}" for source, names in CLASS_SPLITS.items()),
        _has_another_class_split,
        "{class_splits} for tasks.source={tasks.source}",
    ),
    Rule(
        "tasks.held_back",
        "`tasks.held_back` is 0, or makes as many classes as a task that is scored has (`evaluation.ways`, by default "
        "`tasks.ways`); with `tasks.rotations` one class makes four.",
        _holds_too_few_back,
        "0, or so many that they make {scored.ways} classes, those of a task that is scored",
    ),
    Rule(
        "evaluation.split",
        "`evaluation.split=held-back` needs `tasks.held_back` above 0.",
        lambda recipe: recipe.evaluation.split == HELD_BACK and recipe.validation_split != HELD_BACK,
        "train, validation or test where no classes are held back (tasks.held_back)",
    ),
    Rule(
        "evaluation.ways",
        "`evaluation.ways` needs images, or examples of classes (`tasks.source=python-classes`).",
        lambda recipe: recipe.evaluation.ways is not None and not isinstance(recipe.tasks, ClassKeys),
        "null for tasks.source={tasks.source}",
    ),
    Rule(
        "evaluation.ways",
        "`evaluation.ways` above `tasks.ways` needs `inner.head=zero` or `shared`: a learned head has no more outputs.",
        _has_too_many_ways,
        "at most tasks.ways={tasks.ways}, the outputs of a learned head (inner.head=zero or shared takes more)",
    ),
    Rule(
        "evaluation.shots",
        "`evaluation.shots` needs another source than `python`, whose tasks have the sizes that it gives them.",
        lambda recipe: recipe.evaluation.shots is not None and isinstance(recipe.tasks, GivenTasks),
        "null for tasks.source=python, whose tasks have the sizes that it gives them",
    ),
    Rule(
        "evaluation.queries",
        "`evaluation.queries` needs another source than `python`, whose tasks have the sizes that it gives them.",
        lambda recipe: recipe.evaluation.queries is not None and isinstance(recipe.tasks, GivenTasks),
        "null for tasks.source=python, whose tasks have the sizes that it gives them",
    ),
    Rule(
        "inner.joint_features",
        "`inner.joint_features=true` does not go with `model.kind=python`: it is not split into body and head.",
        lambda recipe: recipe.inner.joint_features and isinstance(recipe.model, OutsideModel),
        "false for model.kind=python, which is not split into body and head",
    ),
    Rule(
        "evaluation.batch_norm",
        "`evaluation.batch_norm=support` needs `model.norm=batch`.",
        _needs_batch_norm,
        "joint for a model without batch norm (model.norm=batch)",
    ),
    Rule(
        "evaluation.batch_norm",
        "`evaluation.batch_norm=support` does not go with `inner.joint_features=true`.",
        lambda recipe: recipe.evaluation.batch_norm == "support" and recipe.inner.joint_features,
        "joint for inner.joint_features=true, where support and query images pass the body in one batch",
    ),
    Rule(
        "tasks.augment",
        "`tasks.augment` needs colour images: not `glyphs`, `omniglot` or `tasks.channels=1`, whose images have no "
        "colour and whose characters may be others when they are mirrored or cut.",
        _augments_grey_images,
        "[] for grey images, which have no colour and may be other characters when they are mirrored or cut",
    ),
)
