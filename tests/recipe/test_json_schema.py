"""The JSON Schema of recipes refuses what the reader refuses, at the same key, and takes what it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mamlcli.recipe.editors import SCHEMA_FILE
from mamlcli.recipe.files import load_recipe, shipped_dir, shipped_recipes
from mamlcli.recipe.json_schema import recipe_schema, schema_text
from mamlcli.recipe.keys import known_keys, sections, tag_values
from tests.helpers.editors import keys_refused_by_editor, keys_refused_by_reader

CLASSES, NUMBERS = "tasks: {source: logistic}\n", "tasks: {source: sinusoid}\n"
IMAGES, GREY, FOLDER = "tasks: {source: cifar-fs}\n", "tasks: {source: glyphs}\n", "tasks: {source: folder}\n"
MLP, LINEAR, CNN = "model: {kind: mlp}\n", "model: {kind: linear}\n", "model: {kind: cnn}\n"
SMALL = CLASSES + MLP

# A recipe with one mistake, and the key that it is about.
WRONG = [
    # Sections that are missing or are none.
    ("seed: 1\n" + CLASSES, "model"),
    ("seed: 1\n" + MLP, "tasks"),
    ("tasks: logistic\n" + MLP, "tasks"),
    ("tasks: {shots: 5}\n" + MLP, "tasks.source"),
    (CLASSES + "model: {}\n", "model.kind"),
    (CLASSES + "model: [mlp]\n", "model"),
    (SMALL + "inner:\n", "inner"),
    (SMALL + "outer: 5\n", "outer"),
    # Keys that nothing knows, or that another source, model or section has.
    (SMALL + "sed: 1\n", "sed"),
    (SMALL + "inner: {stesp: 5}\n", "inner.stesp"),
    (SMALL + "inner: {transform: {name: kfo, width: 3}}\n", "inner.transform.width"),
    (SMALL + "outer: {steps: 5}\n", "outer.steps"),
    ("tasks: {source: logistic, ways: 5}\n" + MLP, "tasks.ways"),
    ("tasks: {source: logistic, noise: 0.1}\n" + MLP, "tasks.noise"),
    ("tasks: {source: sinusoid, dimension: 3}\n" + MLP, "tasks.dimension"),
    ("tasks: {source: glyphs, image_size: 28}\n" + CNN, "tasks.image_size"),
    (CLASSES + "model: {kind: mlp, stride: 2}\n", "model.stride"),
    (GREY + "model: {kind: cnn, activation: relu}\n", "model.activation"),
    (CLASSES + "model: {kind: linear, norm: batch}\n", "model.norm"),
    # Names of closed sets.
    ("tasks: {source: sinusoids}\n" + MLP, "tasks.source"),
    (CLASSES + "model: {kind: resnet}\n", "model.kind"),
    (SMALL + "inner: {algorithm: reptile}\n", "inner.algorithm"),
    (SMALL + "inner: {transform: newton}\n", "inner.transform"),
    (SMALL + "inner: {transform: {name: newton}}\n", "inner.transform.name"),
    (SMALL + "outer: {optimizer: Adam}\n", "outer.optimizer"),
    (SMALL + "evaluation: {split: Test}\n", "evaluation.split"),
    (SMALL + "execution: {device: gpu}\n", "execution.device"),
    (SMALL + "logging: wandb\n", "logging"),
    ("tasks: {source: cifar-fs, augment: [flip, blur]}\n" + CNN, "tasks.augment"),
    ("tasks: {source: cifar-fs, augment: blur}\n" + CNN, "tasks.augment"),
    ("tasks: {source: cifar-fs, augment: [flip, flip]}\n" + CNN, "tasks.augment"),
    (GREY + "model: {kind: cnn, stride: 3}\n", "model.stride"),
    # Values of another type.
    (SMALL + "seed: one\n", "seed"),
    (SMALL + "seed: null\n", "seed"),
    (SMALL + "seed: '1'\n", "seed"),
    (SMALL + "inner: {steps: 2.5}\n", "inner.steps"),
    (SMALL + "inner: {steps: true}\n", "inner.steps"),
    (SMALL + "inner: {lr: fast}\n", "inner.lr"),
    (SMALL + "inner:\n  lr: 0,1\n", "inner.lr"),
    (SMALL + "inner: {lr: [0.1]}\n", "inner.lr"),
    (SMALL + "inner: {first_order: 1}\n", "inner.first_order"),
    (SMALL + "inner: {first_order: maybe}\n", "inner.first_order"),
    (SMALL + "inner: {adapt: head.*}\n", "inner.adapt"),
    (SMALL + "inner: {adapt: [[head.*]]}\n", "inner.adapt"),
    (SMALL + "inner: {transform: [kfo]}\n", "inner.transform"),
    (SMALL + "execution: {compile: maybe}\n", "execution.compile"),
    ("tasks: {source: folder, invert: maybe}\n" + CNN, "tasks.invert"),
    ("tasks: {source: folder, path: [a]}\n" + CNN, "tasks.path"),
    (SMALL + "validation: {every: None}\n", "validation.every"),
    # Bounds.
    ("tasks: {source: logistic, shots: 0}\n" + MLP, "tasks.shots"),
    ("tasks: {source: logistic, label_noise: 0.5}\n" + MLP, "tasks.label_noise"),
    ("tasks: {source: glyphs, ways: 1}\n" + CNN, "tasks.ways"),
    (CLASSES + "model: {kind: mlp, depth: 1001}\n", "model.depth"),
    (SMALL + "inner: {lr: 0}\n", "inner.lr"),
    (SMALL + "inner: {lr: -1e-3}\n", "inner.lr"),
    (SMALL + "inner: {lr: .inf}\n", "inner.lr"),
    (SMALL + "inner: {adapt: []}\n", "inner.adapt"),
    (SMALL + "outer: {iterations: 1e10}\n", "outer.iterations"),
    (SMALL + "seed: 1000000000000000001\n", "seed"),
    (SMALL + "reference: {metric: accuracy, value: -1, margin: 1}\n", "reference.value"),
    (SMALL + "reference: {metric: accuracy, value: 90}\n", "reference.margin"),
]

# What the reader takes although YAML 1.2 sees another type in it, and other short forms.
RIGHT = [
    SMALL,
    SMALL + "inner: {lr: 1e-3}\n",
    SMALL + "outer: {lr: 1E-3, iterations: 1e4}\n",
    SMALL + "inner: {lr: 1}\n",
    SMALL + "inner: {lr: .5, steps: +5}\n",
    SMALL + "seed: 010\n",
    SMALL + "inner: {first_order: yes}\n",
    SMALL + "inner: {first_order: Off, algorithm: anil, joint_features: ON}\n",
    SMALL + "execution: {compile: no}\n",
    SMALL + "execution: {compile: auto, device: 'cuda:1'}\n",
    "tasks: {source: folder, invert: yes}\n" + CNN,
    "tasks: {source: folder, invert: true}\n" + CNN,
    "tasks: {source: folder, invert: off}\n" + CNN,
    "tasks: {source: folder, path: 2024}\n" + CNN,
    "tasks: {source: folder, path: 2024-05-01}\n" + CNN,
    "tasks: {source: folder, path: no}\n" + CNN,
    "tasks: {source: folder, path: true}\n" + CNN,
    "tasks: {source: folder, path: }\n" + CNN,
    "tasks: {source: cifar-fs, augment: flip}\n" + CNN,
    "tasks: {source: cifar-fs, augment: [flip, crop]}\n" + CNN,
    "tasks: {source: glyphs, augment: []}\n" + CNN,
    SMALL + "inner: {transform: kfo}\n",
    SMALL + "inner: {transform: {adapted: true, name: kfo}}\n",
    SMALL + "inner: {adapt: null}\n",
    SMALL + "inner: {adapt: ['*.bias', head.*]}\n",
    SMALL + "validation: {every: ~}\n",
    SMALL + "reference:\n",
    SMALL + "reference: {metric: accuracy, value: 90, margin: 1, source: 2017}\n",
    SMALL + "outer: &numbers {tasks: 4}\nvalidation: {<<: *numbers, every: 5}\n",
]

# What only the one or the other can tell; the docstring of json_schema says why.
READER_ALONE = [
    (SMALL + "inner: {steps: 5.0}\n", "inner.steps"),
    (SMALL + "seed: 0x10\n", "seed"),
    (SMALL + "inner: {first_order: 'yes'}\n", "inner.first_order"),
    (SMALL + "inner: {lr: .nan}\n", "inner.lr"),
    ("tasks: {source: folder, path: None}\n" + CNN, "tasks.path"),
    (SMALL + "execution: {chunk: 17}\n", "execution.chunk"),
    (SMALL + "inner: {adapt: [tail.*]}\n", "inner.adapt"),
    (GREY + "model: {kind: cnn, depth: 9, pool: 2}\n", "model.depth"),
]
EDITOR_ALONE = [
    (SMALL + "seed: 1_000\n", "seed"),
    (SMALL + "reference: {metric: accuracy, value: 90, margin: 1, source: ~}\n", "reference.source"),
]


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_is_right(name):
    assert keys_refused_by_editor(shipped_recipes()[name].read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("text", RIGHT)
def test_what_the_reader_takes_is_right(text, write):
    load_recipe(write(text))
    assert keys_refused_by_editor(text) == set()


@pytest.mark.parametrize(("text", "key"), WRONG)
def test_what_the_reader_refuses_is_wrong_at_the_same_key(text, key, write):
    of_reader = keys_refused_by_reader(write(text))
    if key == "inner.transform":  # the reader speaks of the name that stands there
        of_reader = {name.removesuffix(".name") for name in of_reader}
    assert of_reader == {key}
    assert keys_refused_by_editor(text) == {key}


@pytest.mark.parametrize(("text", "key"), READER_ALONE)
def test_what_an_editor_cannot_tell_the_reader_refuses(text, key, write):
    assert keys_refused_by_reader(write(text)) == {key}
    assert keys_refused_by_editor(text) == set()


@pytest.mark.parametrize(("text", "key"), EDITOR_ALONE)
def test_what_an_editor_takes_for_another_type_may_be_a_recipe(text, key, write):
    assert keys_refused_by_reader(write(text)) == set()
    assert keys_refused_by_editor(text) == {key}


def keys_in(schema, prefix=""):
    """Yield every dotted key of a part of the schema, with what it may hold."""
    for name, below in schema.get("properties", {}).items():
        if "allOf" in below:
            for case in below["allOf"]:
                yield from keys_in(case.get("then", case), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", below


def test_every_key_has_its_meaning_its_default_and_its_values():
    known = {name: key for name, key in known_keys({}).items() if name != "inner.transform"}
    found = dict(keys_in(recipe_schema()))
    assert set(found) == set(known)
    for name, key in known.items():
        schema = found[name]
        assert schema["title"] == name
        assert schema["description"]
        assert ("default" in schema) == (key.default is not None), name
        if key.is_closed and not key.is_list and "true or false" not in key.types and name != "tasks.invert":
            values = [{"null": None, "1": 1, "2": 2, "3": 3}.get(value, value) for value in key.values]
            assert set(schema["enum"]) <= set(values), name


def test_every_section_refuses_other_keys_and_says_what_it_is():
    schema = recipe_schema()
    assert schema["additionalProperties"] is False
    for path in ("inner", "outer", "validation", "evaluation", "execution", "reference"):
        [section] = schema["properties"][path]["allOf"]
        assert section["additionalProperties"] is False
        assert schema["properties"][path]["description"] == next(part.doc for part in sections() if part.path == path)
    for path in ("tasks", "model"):
        cases = schema["properties"][path]["allOf"]
        assert all(case["then"]["additionalProperties"] is False for case in cases)
        assert [name for case in cases for name in next(iter(case["if"]["properties"].values()))["enum"]] == (
            tag_values(path)
        )


def test_the_committed_schema_is_the_one_that_is_printed():
    assert (shipped_dir() / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text(), "Run: make docs"


def test_the_schema_needs_no_network():
    """The one address in it is that of draft 7, which editors hold themselves."""
    text = schema_text()
    assert "$ref" not in text
    assert text.count("http") == 1
    assert json.loads(text)["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_the_schema_comes_with_the_package():
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text(encoding="utf-8")
    assert f"mamlcli.recipes = *.yaml, {SCHEMA_FILE}\n" in setup
