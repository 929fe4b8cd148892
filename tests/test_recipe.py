"""The schema: what is refused, what goes together, what is filled in."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mamlcli.names import CLASS_SPLITS, IMAGE_SOURCES
from mamlcli.recipe import TAGGED, Inner, Recipe, section_of

SMALL = {"tasks": {"source": "logistic"}, "model": {"kind": "mlp"}}


def recipe(**sections):
    return Recipe.model_validate({**SMALL, **sections})


def conflicts(**sections):
    return dict(recipe(**sections).conflicts())


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "depth", 0), ("model", "width", -3), ("inner", "steps", 0), ("inner", "steps", -1),
        ("inner", "steps", 1.5), ("inner", "lr", 0), ("inner", "lr", -0.1), ("inner", "lr", float("nan")),
        ("inner", "lr", float("inf")), ("outer", "lr", -1e-3), ("outer", "lr", float("nan")), ("outer", "tasks", 0),
        ("outer", "iterations", 0), ("outer", "clip_norm", float("inf")), ("validation", "every", 0),
        ("evaluation", "tasks", 1), ("evaluation", "split", "tests"), ("inner", "algorithm", "reptile"),
        ("execution", "device", "gpu"), ("execution", "dtype", "float16"), ("execution", "threads", 0),
    ],
)  # fmt: skip
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


@pytest.mark.parametrize("source", ["linear-regression", "logistic", "sinusoid"])
def test_cnn_on_points_is_a_conflict(source):
    found = conflicts(tasks={"source": source}, model={"kind": "cnn"})
    assert list(found) == ["model.kind"]
    assert source in found["model.kind"]


@pytest.mark.parametrize("source", [*IMAGE_SOURCES, "folder"])
def test_cnn_on_images_is_no_conflict(source):
    assert not conflicts(tasks={"source": source}, model={"kind": "cnn"})


def test_joint_features_without_anil_is_a_conflict():
    assert list(conflicts(inner={"joint_features": True})) == ["inner.joint_features"]
    assert not conflicts(inner={"joint_features": True, "algorithm": "anil"})


def test_fomaml_that_is_not_first_order_is_a_conflict_only_where_it_was_written():
    assert list(conflicts(inner={"algorithm": "fomaml", "first_order": False})) == ["inner.first_order"]
    assert not conflicts(inner={"algorithm": "fomaml"})
    assert not conflicts(inner={"algorithm": "fomaml", "first_order": True})


def test_adapted_transform_without_a_transform_is_a_conflict():
    assert list(conflicts(inner={"transform": {"adapted": True}})) == ["inner.transform.adapted"]
    assert not conflicts(inner={"transform": {"name": "kfo", "adapted": True}})


@pytest.mark.parametrize("source", IMAGE_SOURCES)
def test_class_split_of_another_source_is_a_conflict(source):
    for name in {"published", "vinyals", "seeded", "scripts"}:
        found = conflicts(tasks={"source": source, "class_split": name}, model={"kind": "cnn"})
        assert bool(found) == (name not in CLASS_SPLITS[source])


def test_name_alone_is_a_transform():
    assert Inner.model_validate({"transform": "kfo"}) == Inner.model_validate({"transform": {"name": "kfo"}})


def test_resolving_fills_in_what_depends_on_other_keys():
    found = recipe(inner={"algorithm": "fomaml", "steps": 3}).resolved()
    assert found.inner.first_order
    assert found.evaluation.steps == 3
    images = recipe(tasks={"source": "omniglot"}, model={"kind": "cnn"}).resolved()
    assert images.tasks.class_split == "vinyals"


def test_resolving_keeps_what_was_written():
    found = recipe(inner={"steps": 3}, evaluation={"steps": 7}).resolved()
    assert found.evaluation.steps == 7
    assert not found.inner.first_order


def test_resolving_twice_changes_nothing():
    once = recipe(inner={"algorithm": "fomaml"}, tasks={"source": "glyphs"}, model={"kind": "cnn"}).resolved()
    assert once.resolved() == once


def test_resolved_recipe_has_no_conflicts():
    assert not recipe(inner={"algorithm": "fomaml"}).resolved().conflicts()


def test_every_source_and_kind_has_its_section():
    for key, tags in TAGGED.items():
        tag_name = {"tasks": "source", "model": "kind"}[key]
        for tag, section in tags.items():
            assert section_of((key,), {key: tag}) is section
            assert isinstance(section.model_validate({tag_name: tag}), section)


def test_sections_are_found_by_their_path():
    assert section_of(("inner",), {}) is Inner
    assert section_of(("inner", "transform"), {}).__name__ == "Transform"
    assert section_of(("inner", "lr"), {}) is None
    assert section_of(("tasks",), {}) is None
    assert section_of(("nonsense",), {}) is None


def test_every_key_has_a_description():
    sections = [
        Recipe,
        *TAGGED["tasks"].values(),
        *TAGGED["model"].values(),
        section_of(("inner", "transform"), {}),
    ]
    sections += [section_of((name,), {}) for name in ("inner", "outer", "validation", "evaluation", "execution")]
    for section in sections:
        for name, field in section.model_fields.items():
            is_group = name in ("source", "kind") or section_of((name,), {}) or name in ("tasks", "model")
            assert field.description or is_group, f"{section.__name__}.{name}"
