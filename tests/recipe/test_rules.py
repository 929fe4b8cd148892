"""What keys of a recipe do not go together, and what is said of them."""

from __future__ import annotations

import pytest

from mamlcli.common.names import CLASS_SPLITS, IMAGE_SOURCES
from mamlcli.recipe.rules import RULES, conflicts
from mamlcli.recipe.schema import Recipe

SMALL = {"tasks": {"source": "logistic"}, "model": {"kind": "mlp"}}

# A recipe that breaks each rule alone, and what is said of it.
BROKEN = {
    "model.kind": ({"model": {"kind": "cnn"}}, "expected mlp or linear for tasks.source=logistic, got 'cnn'."),
    "inner.joint_features": (
        {"inner": {"joint_features": True}},
        "expected false unless inner.algorithm=anil, got true.",
    ),
    "inner.first_order": (
        {"inner": {"algorithm": "fomaml", "first_order": False}},
        "expected true for inner.algorithm=fomaml, got false.",
    ),
    "inner.transform.adapted": (
        {"inner": {"transform": {"adapted": True}}},
        "expected false for inner.transform.name=none, got true.",
    ),
    "execution.path": (
        {"inner": {"memory": "constant"}, "execution": {"path": "batched"}},
        "expected auto, explicit or loop for inner.memory=constant, got 'batched'.",
    ),
    "execution.compile": (
        {"execution": {"path": "loop", "compile": True}},
        "expected false for execution.path=loop, got true.",
    ),
    "execution.chunk": ({"execution": {"chunk": 17}}, "expected at most outer.tasks=16, got 17."),
    "reference.metric": (
        {"reference": {"metric": "squared-error", "value": 1.0, "margin": 0.1}},
        "expected the metric of tasks.source=logistic: accuracy for classes, squared-error for points, "
        "got 'squared-error'.",
    ),
    "reference.value": (
        {"reference": {"metric": "accuracy", "value": 101.0, "margin": 0.1}},
        "expected an accuracy in per cent, got 101.0.",
    ),
    "reference.steps": (
        {"reference": {"metric": "accuracy", "value": 98.7, "margin": 0.4, "steps": 6}},
        "expected at most the inner steps that are scored (evaluation.steps), got 6.",
    ),
    "validation.metric": (
        {"tasks": {"source": "sinusoid"}, "validation": {"metric": "accuracy"}},
        "expected loss for tasks.source=sinusoid, got 'accuracy'.",
    ),
    "tasks.class_split": (
        {"tasks": {"source": "omniglot", "class_split": "scripts"}},
        "expected vinyals or seeded for tasks.source=omniglot, got 'scripts'.",
    ),
}


def recipe(**sections):
    return Recipe.model_validate({**SMALL, **sections})


def conflicting(**sections):
    return dict(conflicts(recipe(**sections)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
def test_every_rule_is_broken_by_its_own_recipe_and_says_so(rule):
    sections, expected = BROKEN[rule.key]
    assert conflicting(**sections) == {rule.key: expected}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
def test_the_sentence_of_a_rule_names_its_key(rule):
    assert rule.key.rpartition(".")[2] in rule.sentence


@pytest.mark.parametrize("source", ["linear-regression", "logistic", "sinusoid"])
def test_cnn_on_points_is_a_conflict(source):
    broken = conflicting(tasks={"source": source}, model={"kind": "cnn"})
    assert list(broken) == ["model.kind"]
    assert source in broken["model.kind"]


@pytest.mark.parametrize("source", [*IMAGE_SOURCES, "folder"])
def test_cnn_on_images_is_no_conflict(source):
    assert not conflicting(tasks={"source": source}, model={"kind": "cnn"})


def test_joint_features_without_anil_is_a_conflict():
    assert list(conflicting(inner={"joint_features": True})) == ["inner.joint_features"]
    assert not conflicting(inner={"joint_features": True, "algorithm": "anil"})


def test_fomaml_that_is_not_first_order_is_a_conflict_only_where_it_was_written():
    assert list(conflicting(inner={"algorithm": "fomaml", "first_order": False})) == ["inner.first_order"]
    assert not conflicting(inner={"algorithm": "fomaml"})
    assert not conflicting(inner={"algorithm": "fomaml", "first_order": True})


def test_reference_within_the_steps_that_are_scored_is_no_conflict():
    reference = {"metric": "accuracy", "value": 98.7, "margin": 0.4, "steps": 10}
    assert not conflicting(reference=reference, evaluation={"steps": 10})
    assert not conflicting(reference={**reference, "steps": None})


def test_adapted_transform_without_a_transform_is_a_conflict():
    assert list(conflicting(inner={"transform": {"adapted": True}})) == ["inner.transform.adapted"]
    assert not conflicting(inner={"transform": {"name": "kfo", "adapted": True}})


@pytest.mark.parametrize("source", IMAGE_SOURCES)
def test_class_split_of_another_source_is_a_conflict(source):
    for name in {"published", "vinyals", "seeded", "scripts"}:
        broken = conflicting(tasks={"source": source, "class_split": name}, model={"kind": "cnn"})
        assert bool(broken) == (name not in CLASS_SPLITS[source])


def test_resolved_recipe_breaks_no_rule():
    assert not conflicts(recipe(inner={"algorithm": "fomaml"}).resolved())
