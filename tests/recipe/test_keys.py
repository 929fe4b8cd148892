"""The keys of recipes, as the schema has them."""

from __future__ import annotations

import pytest

from mamlcli.common.names import IMAGE_SOURCES, TRANSFORMS
from mamlcli.recipe.files import load_recipe, recipe_to_tree, shipped_recipes
from mamlcli.recipe.keys import as_yaml, known_keys, section_at, sections, tag_keys, tag_values

ALL_KEYS = [key for section in sections() for key in section.keys]


def dotted(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.mark.parametrize("name", shipped_recipes())
def test_known_keys_are_those_of_a_recipe_with_the_tags(name):
    recipe = load_recipe(name)[1]
    known = known_keys({"tasks": recipe.tasks.source, "model": recipe.model.kind})
    # inner.transform stands for its name; a recipe need not have a reference.
    reference = {key for key in known if key.startswith("reference.")}
    assert reference == {f"reference.{key}" for key in ("metric", "value", "margin", "steps", "source")}
    assert set(known) == {*dotted(recipe_to_tree(recipe)), "inner.transform", *reference}


def test_keys_of_all_sources_are_known_where_the_source_is_not():
    known = known_keys({})
    assert {"tasks.ways", "tasks.label_noise", "model.stride", "model.bias"} <= set(known)
    assert {"vinyals", "folders"} <= set(known["tasks.class_split"].values)


def test_tags_and_their_values_come_from_the_schema():
    assert tag_keys() == {"tasks": "source", "model": "kind"}
    sources = [*IMAGE_SOURCES, "folder", "linear-regression", "logistic", "sinusoid", "python-classes", "python"]
    assert (tag_values("tasks"), tag_values("model")) == (sources, ["cnn", "mlp", "linear", "python"])


def test_sections_are_found_by_path_and_tag():
    assert section_at(("inner",), {}).path == "inner"
    assert section_at(("inner", "transform"), {}).names[0] == "name"
    assert "ways" in section_at(("tasks",), {"tasks": "glyphs"}).names
    assert "noise" in section_at(("tasks",), {"tasks": "sinusoid"}).names
    assert section_at((), {}).names[:3] == ("seed", "tasks", "model")


@pytest.mark.parametrize("path", [("inner", "lr"), ("tasks",), ("nonsense",)])
def test_there_is_no_section_where_there_is_none(path):
    assert section_at(path, {}) is None


@pytest.mark.parametrize("key", ALL_KEYS, ids=lambda key: key.name)
def test_every_key_has_a_description_that_says_what_it_is(key):
    assert key.description
    assert key.description.split()[0] not in ("of", "add", "take", "keep", "turn", "which", "what", "their")


def test_a_key_has_its_type_range_and_default():
    keys = {key.name: key for key in ALL_KEYS}
    assert keys["inner.transform.name"].values == (*TRANSFORMS, "python")
    size = keys["tasks.image_size"]
    assert (size.types, size.bounds, size.default, size.is_closed) == (("integer",), (">= 8", "<= 512"), "84", False)
    assert keys["model.width"].types == ("integer", "`null`")  # of the last kind that has it, linear
    assert keys["execution.device"].values == ("auto", "cpu", "cuda", "mps")
    assert keys["inner.transform.parameters"].default == '["*"]'


@pytest.mark.parametrize(
    ("value", "text"), [(None, "null"), (True, "true"), (1e-3, "0.001"), (1.0, "1"), (3, "3"), (["a.*"], '["a.*"]')]
)
def test_a_value_is_written_as_yaml_reads_it(value, text):
    assert as_yaml(value) == text
