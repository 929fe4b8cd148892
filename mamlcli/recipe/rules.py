"""A table says here which keys of a recipe do not go together; the check and the reference both read it.

What only the data or the model can tell, such as classes that a split lacks, is checked where they are built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mamlcli.common.names import CLASS_SPLITS
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ImageKeys


@dataclass(frozen=True)
class Rule:
    """Says of several keys how they go together.

    Attributes:
        key: the dotted key that an error names.
        sentence: the rule in words, Markdown, for the reference.
        is_broken: whether a recipe breaks the rule.
        expected: what the key should have been; `{section.key}` stands for a value of the recipe, `{class_splits}` for
            the names of class splits that its source has.
    """

    key: str
    sentence: str
    is_broken: Callable[[Recipe], bool]
    expected: str

    def problem(self, recipe: Recipe) -> str:
        """Return what was expected of the key and what a recipe has, as an error says it."""
        splits = " or ".join(CLASS_SPLITS.get(recipe.tasks.source, ()))
        expected = self.expected.format(**dict(recipe), class_splits=splits)
        return f"expected {expected}, got {_quoted(_value(recipe, self.key))}."


def conflicts(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the keys of a recipe that do not go together, each with what was expected and what it is."""
    return [(rule.key, rule.problem(recipe)) for rule in RULES if rule.is_broken(recipe)]


def _value(recipe: Recipe, key: str) -> object:
    value: object = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _quoted(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


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


def _has_another_class_split(recipe: Recipe) -> bool:
    split = getattr(recipe.tasks, "class_split", None)
    return split is not None and split not in CLASS_SPLITS[recipe.tasks.source]


RULES = (
    Rule(
        "model.kind",
        "`model.kind=cnn` needs images: a source of images, or `folder`.",
        lambda recipe: recipe.model.kind == "cnn" and not isinstance(recipe.tasks, ImageKeys),
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
        "inner.transform.adapted",
        "`inner.transform.adapted=true` needs a transform.",
        lambda recipe: recipe.inner.transform.adapted and recipe.inner.transform.name == "none",
        "false for inner.transform.name=none",
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
)
