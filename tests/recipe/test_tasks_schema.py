"""The sections for tasks: what a source may have, and whether its tasks are classified."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from mamlcli.common.names import CLASS_SPLITS, IMAGE_SOURCES
from mamlcli.recipe.tasks_schema import Tasks


def tasks(source, **keys):
    return TypeAdapter(Tasks).validate_python({"source": source, **keys})


@pytest.mark.parametrize("source", [*IMAGE_SOURCES, "folder"])
def test_images_need_two_ways(source):
    with pytest.raises(ValidationError):
        tasks(source, ways=1)
    assert tasks(source, ways=2).ways == 2


@pytest.mark.parametrize("source", CLASS_SPLITS)
def test_every_class_split_of_a_source_is_accepted(source):
    assert [tasks(source, class_split=name).class_split for name in CLASS_SPLITS[source]] == [*CLASS_SPLITS[source]]


@pytest.mark.parametrize(
    ("source", "is_classification"),
    [("glyphs", True), ("folder", True), ("logistic", True), ("linear-regression", False), ("sinusoid", False)],
)
def test_source_says_whether_its_tasks_are_classified(source, is_classification):
    assert tasks(source).is_classification is is_classification


@pytest.mark.parametrize(("value", "word"), [(True, "yes"), (False, "no"), ("auto", "auto"), ("yes", "yes")])
def test_yes_and_no_are_words_of_invert_though_yaml_reads_them_as_bools(value, word):
    assert tasks("folder", invert=value).invert == word


@pytest.mark.parametrize(
    ("key", "value"),
    [("condition_number", 0.9), ("weight_scale", 0.0), ("label_noise", 0.5), ("label_noise", -0.1), ("dimension", 0)],
)
def test_value_of_logistic_tasks_out_of_bounds_is_refused(key, value):
    with pytest.raises(ValidationError) as caught:
        tasks("logistic", **{key: value})
    assert [item["loc"][-1] for item in caught.value.errors()] == [key]


@pytest.mark.parametrize("augment", [["flip", "crop", "flip"], ["mirror"], "mirror"])
def test_augmentations_are_a_list_of_known_names_each_once(augment):
    with pytest.raises(ValidationError):
        tasks("cifar-fs", augment=augment)
    assert tasks("cifar-fs").augment == []
    assert tasks("cifar-fs", augment=["colour", "flip"]).augment == ["colour", "flip"]


def test_one_augmentation_needs_no_list():
    assert tasks("cifar-fs", augment="flip").augment == ["flip"]
