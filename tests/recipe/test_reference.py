"""The reference of recipe keys is written from the schema; tests/test_docs.py asks if docs/recipes.md is up to date."""

from __future__ import annotations

import re

import pytest

from mamlcli.recipe.files import shipped_recipes
from mamlcli.recipe.keys import sections, tag_values
from mamlcli.recipe.reference import recipe_reference

TEXT = recipe_reference()


def test_recipe_reference_has_every_key_of_every_section_in_a_row():
    rows = re.findall(r"^\| `([a-z_.0-9]+)` \|(?:.* \|){4}$", TEXT, re.MULTILINE)
    assert sorted(rows) == sorted(key.name for section in sections() for key in section.keys)


def test_recipe_reference_has_every_shipped_recipe():
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", TEXT, re.MULTILINE)) >= set(shipped_recipes())


@pytest.mark.parametrize("path", ["tasks", "model"])
def test_recipe_reference_says_which_values_choose_a_table(path):
    headings = re.findall(rf"^### {path}\.\w+: (.*)$", TEXT, re.MULTILINE)
    assert [value for heading in headings for value in heading.split(", ")] == tag_values(path)


def test_a_row_says_type_range_default_and_meaning():
    assert "| `inner.steps` | integer | >= 1, <= 100000 | `5` | inner steps of meta-training, K |" in TEXT
    assert "| `evaluation.steps` | integer or `null` | >= 1, <= 100000 | `null` |" in TEXT


def test_every_row_of_a_table_has_its_cells():
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        num_cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(num_cells) == 1, table
