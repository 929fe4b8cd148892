"""The closed sets of names: those that belong together say the same."""

from __future__ import annotations

from typing import get_args

from mamlcli.common.names import CLASS_SPLITS, IMAGE_SOURCES, SCORED_SPLITS
from mamlcli.recipe.schema import Split


def test_every_image_source_has_class_splits_and_so_has_a_folder():
    assert set(CLASS_SPLITS) == {*IMAGE_SOURCES, "folder"}
    assert all(CLASS_SPLITS.values())


def test_splits_are_those_that_a_recipe_may_score():
    assert get_args(Split) == SCORED_SPLITS
