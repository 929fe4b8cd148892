"""The schema: what is refused, what is filled in."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

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


def test_recipe_is_classified_as_its_tasks_are():
    assert recipe().is_classification
    assert not recipe(tasks={"source": "sinusoid"}).is_classification
