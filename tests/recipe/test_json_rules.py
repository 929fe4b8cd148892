"""Rules between keys in the JSON Schema: what breaks a rule is wrong at its key; what cannot be said is listed."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml

from mamlcli.recipe.json_rules import FORMS, rule_forms, unsaid_rules
from mamlcli.recipe.rules import RULES
from tests.helpers.editors import editor_tree, keys_refused_by_editor, keys_refused_by_reader, validator
from tests.recipe.test_rules import BROKEN, SMALL

IDLE = {"head": "zero", "steps": 1, "rates": "tensor"}
ACCURACY = {"metric": "accuracy", "value": 90, "margin": 1}

# Cases of a rule beside the one in BROKEN, each broken alone, by the key that the rule is about.
OTHER_CASES = [
    ("model.kind", {"tasks": {"source": "sinusoid"}, "model": {"kind": "cnn"}}),
    ("inner.joint_features", {"inner": {"algorithm": "boil", "joint_features": True}}),
    ("inner.transform.adapted", {"inner": {"transform": {"name": "none", "adapted": True}}}),
    ("inner.rates", {"model": {"kind": "linear", "depth": 2}, "inner": {**IDLE, "head": "shared"}}),
    ("inner.rates", {"model": {"kind": "linear", "linear_layers": 1}, "inner": IDLE}),
    ("inner.rates", {"model": {"kind": "mlp", "linear_layers": 1}, "inner": {**IDLE, "algorithm": "anil"}}),
    ("inner.head", {"model": {"kind": "linear"}, "inner": {"head": "zero"}}),
    ("reference.metric", {"tasks": {"source": "sinusoid"}, "reference": ACCURACY}),
    ("tasks.class_split", {"tasks": {"source": "glyphs", "class_split": "seeded"}}),
    ("tasks.augment", {"tasks": {"source": "folder", "channels": 1, "augment": ["crop"]}}),
    ("evaluation.split", {"evaluation": {"split": "held-back"}}),
    (
        "evaluation.batch_norm",
        {
            "tasks": {"source": "glyphs"},
            "model": {"kind": "cnn", "norm": "layer"},
            "evaluation": {"batch_norm": "support"},
        },
    ),
    ("execution.compile", {"execution": {"path": "batched", "compile": True}}),
    ("execution.cuda_graphs", {"execution": {"path": "batched", "cuda_graphs": "on"}}),
]

# Near what breaks a rule, and right: where a default, a short form or another key makes the difference.
RIGHT = [
    {"inner": {"transform": "kfo", "rates": "tensor"}},
    {"inner": {"transform": {"name": "kfo", "adapted": True}}},
    {"inner": {"algorithm": "fomaml"}},
    {"inner": {"head": "zero", "steps": 1, "rates": "step"}},
    {"inner": {"head": "zero", "steps": 1, "rates": "tensor", "adapt": ["head.*"]}},
    {"inner": {"head": "zero", "steps": 1, "rates": "tensor", "algorithm": "anil"}},
    {"inner": {"head": "zero", "rates": "tensor"}},
    {"model": {"kind": "linear", "depth": 2}, "inner": {"head": "zero"}},
    {"model": {"kind": "linear", "linear_layers": 1}, "inner": {"head": "zero"}},
    {"outer": {"lr_min": 0, "schedule": "constant"}},
    {"outer": {"multi_step_loss": 100}},
    {"reference": {"metric": "accuracy", "value": 100, "margin": 0.1}},
    {"tasks": {"source": "sinusoid"}, "reference": {"metric": "squared-error", "value": 101, "margin": 0.1}},
    {"tasks": {"source": "omniglot", "class_split": "seeded"}},
    {"tasks": {"source": "glyphs", "held_back": 5}, "evaluation": {"split": "held-back"}},
    {"tasks": {"source": "folder", "augment": "crop"}},
    {"tasks": {"source": "glyphs"}, "model": {"kind": "cnn"}, "evaluation": {"batch_norm": "support"}},
]


NAMES = {rule.sentence: (rule.sentence, rule.sentence.split("`")[1], rule.key) for rule in RULES}


def text_of(changes):
    return yaml.safe_dump({**SMALL, **changes})


def broken_by(rule):
    """Return the recipe that breaks a rule alone."""
    return text_of(next(BROKEN[name] for name in NAMES[rule.sentence] if name in BROKEN)[0])


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in unsaid_rules()], ids=lambda rule: rule.key)
def test_what_breaks_a_rule_is_wrong_at_its_key_in_the_words_of_the_rule(rule):
    text = broken_by(rule)
    assert keys_refused_by_editor(text) == {rule.key}
    [message] = [error.schema["errorMessage"] for error in validator().iter_errors(editor_tree(text))]
    assert message.startswith(rule.sentence.replace("`", "").partition("\n")[0])
    assert "\n" not in message


@pytest.mark.parametrize("rule", unsaid_rules(), ids=lambda rule: rule.key)
def test_a_rule_that_compares_keys_is_left_to_the_reader(rule):
    assert keys_refused_by_editor(broken_by(rule)) == set()


@pytest.mark.parametrize(("key", "changes"), OTHER_CASES)
def test_every_case_of_a_rule_is_wrong_at_its_key(key, changes, write):
    assert keys_refused_by_reader(write(text_of(changes))) == {key}
    assert keys_refused_by_editor(text_of(changes)) == {key}


@pytest.mark.parametrize("changes", RIGHT)
def test_what_is_near_a_rule_and_does_not_break_it_is_right(changes, write):
    assert keys_refused_by_reader(write(text_of(changes))) == set()
    assert keys_refused_by_editor(text_of(changes)) == set()


def test_every_rule_is_said_or_noted_as_one_that_cannot_be():
    counts = Counter(rule.key for rule in RULES)
    assert {key: len(forms) for key, forms in FORMS.items()} == counts
    assert len(unsaid_rules()) == 6


def test_rules_between_keys_say_what_they_are_in_one_line():
    for schema in rule_forms():
        [message] = set(messages(schema["then"]))
        assert message.endswith((".", "seeded"))


def messages(schema):
    """Yield the messages of a part of the schema and of those below it."""
    if "errorMessage" in schema:
        yield schema["errorMessage"]
    for below in schema.get("properties", {}).values():
        yield from messages(below)
