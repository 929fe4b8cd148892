"""The schema: what is refused, what is filled in."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mamlcli.common.names import IMAGE_SOURCES
from mamlcli.recipe.schema import Inner, Recipe

SMALL = {"tasks": {"source": "logistic"}, "model": {"kind": "mlp"}}


def recipe(**sections):
    return Recipe.model_validate({**SMALL, **sections})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "depth", 0),
        ("model", "width", -3),
        ("inner", "steps", 0),
        ("inner", "steps", -1),
        ("inner", "steps", 1.5),
        ("inner", "lr", 0),
        ("inner", "lr", -0.1),
        ("inner", "lr", float("nan")),
        ("inner", "lr", float("inf")),
        ("outer", "lr", -1e-3),
        ("outer", "lr", float("nan")),
        ("outer", "tasks", 0),
        ("outer", "iterations", 0),
        ("outer", "clip_norm", float("inf")),
        ("validation", "every", 0),
        ("evaluation", "tasks", 1),
        ("evaluation", "split", "tests"),
        ("inner", "algorithm", "reptile"),
        ("execution", "device", "gpu"),
        ("execution", "dtype", "float16"),
        ("execution", "threads", 0),
    ],
)
def test_value_out_of_bounds_is_refused(section, key, value):
    sections = {**SMALL, section: {**SMALL.get(section, {}), key: value}}
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(sections)
    assert [item["loc"][-1] for item in caught.value.errors()] == [key]


@pytest.mark.parametrize("value", [1, 0, "true", "yes", None, 1.0])
def test_only_true_and_false_are_bools(value):
    with pytest.raises(ValidationError):
        Inner.model_validate({"first_order": value})


@pytest.mark.parametrize("value", [True, "3", 3.0])
def test_only_integers_are_integers(value):
    with pytest.raises(ValidationError):
        Inner.model_validate({"steps": value})


def test_integer_is_taken_as_a_rate():
    assert Inner.model_validate({"lr": 1}).lr == 1.0


def test_images_need_two_ways():
    for source in IMAGE_SOURCES:
        with pytest.raises(ValidationError):
            recipe(tasks={"source": source, "ways": 1}, model={"kind": "cnn"})


def test_recipe_is_frozen():
    with pytest.raises(ValidationError):
        recipe().seed = 3


def test_recipe_that_is_no_mapping_is_refused():
    with pytest.raises(ValidationError, match="expected keys and values"):
        Recipe.model_validate(["tasks"])


def test_name_alone_is_a_transform():
    assert Inner.model_validate({"transform": "kfo"}) == Inner.model_validate({"transform": {"name": "kfo"}})


def test_resolving_fills_in_what_depends_on_other_keys():
    resolved = recipe(inner={"algorithm": "fomaml", "steps": 3}).resolved()
    assert resolved.inner.first_order
    assert resolved.evaluation.steps == 3
    images = recipe(tasks={"source": "omniglot"}, model={"kind": "cnn"}).resolved()
    assert images.tasks.class_split == "vinyals"


def test_resolving_keeps_what_was_written():
    resolved = recipe(inner={"steps": 3}, evaluation={"steps": 7}).resolved()
    assert resolved.evaluation.steps == 7
    assert not resolved.inner.first_order


def test_resolving_twice_changes_nothing():
    once = recipe(inner={"algorithm": "fomaml"}, tasks={"source": "glyphs"}, model={"kind": "cnn"}).resolved()
    assert once.resolved() == once


@pytest.mark.parametrize(
    ("source", "expected"),
    [("glyphs", True), ("folder", True), ("logistic", True), ("linear-regression", False), ("sinusoid", False)],
)
def test_recipe_knows_whether_its_tasks_are_classified(source, expected):
    assert recipe(tasks={"source": source}).is_classification is expected
