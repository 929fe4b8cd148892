"""What keys of a recipe do not go together, and what is said of them."""

from __future__ import annotations

import pytest

from mamlcli.common.names import CLASS_SPLITS, IMAGE_SOURCES
from mamlcli.recipe.rules import RULES, conflicts
from mamlcli.recipe.schema import Recipe

SMALL = {"tasks": {"source": "logistic"}, "model": {"kind": "mlp"}}

# A recipe that breaks each rule alone, and what is said of it. Where a key has several rules, each is named by the
# first words of its sentence, or by the whole of it.
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
    "inner.algorithm=boil": (
        {"inner": {"algorithm": "boil"}, "model": {"kind": "linear"}},
        "expected maml, fomaml or anil for model.kind=linear, which has no body to adapt, got 'boil'.",
    ),
    "inner.head=zero": (
        {"inner": {"algorithm": "boil", "head": "zero"}},
        "expected learned for inner.algorithm=boil, whose output layer does not adapt and would stay the same for all "
        "classes, got 'zero'.",
    ),
    "inner.head=shared": (
        {"tasks": {"source": "sinusoid"}, "inner": {"head": "shared"}},
        "expected learned or zero for tasks.source=sinusoid, which has no classes to share a row, got 'shared'.",
    ),
    "inner.transform.adapted": (
        {"inner": {"transform": {"adapted": True}}},
        "expected false for inner.transform.name=none, got true.",
    ),
    "inner.rates": (
        {"inner": {"rates": "step", "transform": {"name": "kfo", "adapted": True}}},
        "expected fixed for inner.transform.adapted=true, which would also change the rates of inner steps already "
        "taken, got 'step'.",
    ),
    "inner.rates=tensor": (
        {"inner": {"head": "zero", "steps": 1, "rates": "tensor-step"}},
        "expected fixed or step for inner.head=zero and inner.steps=1: layers below the output layer have no gradient "
        "in the first step, and their rates would never be learned, got 'tensor-step'.",
    ),
    "outer.schedule": (
        {"outer": {"lr_min": 1e-5}},
        "expected cosine for outer.lr_min=1e-05, where that schedule ends, got 'constant'.",
    ),
    "outer.lr_min": (
        {"outer": {"lr_min": 1e-2, "schedule": "cosine"}},
        "expected at most outer.lr=0.001, where the schedule begins, got 0.01.",
    ),
    "outer.weight_decay": (
        {"outer": {"lr": 0.5, "weight_decay": 2.0}},
        "expected less than 1 divided by outer.lr=0.5, since a step multiplies each weight by 1 - lr * weight_decay, "
        "got 2.0.",
    ),
    "outer.multi_step_loss": (
        {"inner": {"steps": 1}, "outer": {"multi_step_loss": 100}},
        "expected null for inner.steps=1, which has one loss, got 100.",
    ),
    "execution.path": (
        {"inner": {"memory": "constant"}, "execution": {"path": "batched"}},
        "expected auto, explicit or loop for inner.memory=constant, got 'batched'.",
    ),
    "execution.compile": (
        {"execution": {"path": "loop", "compile": True}},
        "expected false for execution.path=loop, got true.",
    ),
    "execution.cuda_graphs": (
        {"execution": {"path": "loop", "cuda_graphs": "on"}},
        "expected auto or off for execution.path=loop, got 'on'.",
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
    "tasks.held_back": (
        {"tasks": {"source": "glyphs", "held_back": 4}},
        "expected 0, or so many that they make 5 classes, those of a task that is scored, got 4.",
    ),
    "evaluation.split": (
        {"tasks": {"source": "glyphs"}, "evaluation": {"split": "held-back"}},
        "expected train, validation or test where no classes are held back (tasks.held_back), got 'held-back'.",
    ),
    "evaluation.shots": (
        {"tasks": {"source": "python"}, "evaluation": {"shots": 2}},
        "expected null for tasks.source=python, whose tasks have the sizes that it gives them, got 2.",
    ),
    "evaluation.queries": (
        {"tasks": {"source": "python"}, "evaluation": {"queries": 2}},
        "expected null for tasks.source=python, whose tasks have the sizes that it gives them, got 2.",
    ),
    "`inner.joint_features=true` does not go with `model.kind=python`: it is not split into body and head.": (
        {"model": {"kind": "python"}, "inner": {"algorithm": "anil", "joint_features": True}},
        "expected false for model.kind=python, which is not split into body and head, got true.",
    ),
    "evaluation.ways": ({"evaluation": {"ways": 2}}, "expected null for tasks.source=logistic, got 2."),
    "`evaluation.ways` above `tasks.ways` needs `inner.head=zero` or `shared`: a learned head has no more outputs.": (
        {"tasks": {"source": "glyphs"}, "evaluation": {"ways": 6}},
        "expected at most tasks.ways=5, the outputs of a learned head (inner.head=zero or shared takes more), got 6.",
    ),
    "evaluation.batch_norm": (
        {"evaluation": {"batch_norm": "support"}},
        "expected joint for a model without batch norm (model.norm=batch), got 'support'.",
    ),
    "`evaluation.batch_norm=support` does not go with `inner.joint_features=true`.": (
        {
            "tasks": {"source": "glyphs"},
            "model": {"kind": "cnn"},
            "inner": {"algorithm": "anil", "joint_features": True},
            "evaluation": {"batch_norm": "support"},
        },
        "expected joint for inner.joint_features=true, where support and query images pass the body in one batch, got "
        "'support'.",
    ),
    "tasks.augment": (
        {"tasks": {"source": "omniglot", "augment": ["flip"]}},
        "expected [] for grey images, which have no colour and may be other characters when they are mirrored or cut, "
        "got ['flip'].",
    ),
}


def recipe(**sections):
    return Recipe.model_validate({**SMALL, **sections})


def conflicting(**sections):
    return dict(conflicts(recipe(**sections)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
def test_every_rule_is_broken_by_its_own_recipe_and_says_so(rule):
    names = rule.sentence, rule.sentence.split("`")[1], rule.key
    sections, expected = next(BROKEN[name] for name in names if name in BROKEN)
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


@pytest.mark.parametrize("rates", ["tensor", "step", "tensor-step"])
def test_learned_rates_of_an_adapted_transform_are_a_conflict(rates):
    adapted = {"name": "kfo", "adapted": True}
    assert list(conflicting(inner={"rates": rates, "transform": adapted})) == ["inner.rates"]
    assert not conflicting(inner={"rates": rates, "transform": "kfo", "algorithm": "fomaml"})
    assert not conflicting(inner={"transform": adapted})


@pytest.mark.parametrize("head", ["zero", "shared"])
def test_rates_that_have_no_gradient_are_a_conflict(head):
    def broken(model=SMALL["model"], **inner):
        return list(conflicting(inner={"head": head, "steps": 1, "rates": "tensor", **inner}, model=model))

    deep, flat = {"kind": "linear", "depth": 2}, {"kind": "linear"}
    assert broken() == broken(rates="tensor-step") == broken(deep) == ["inner.rates"]
    assert broken({"kind": "mlp", "linear_layers": 1}, algorithm="anil") == ["inner.rates"]
    # The one rate of all tensors is learned by the output layer; it alone adapts; there is a second step.
    for inner in ({"rates": "step"}, {"algorithm": "anil"}, {"adapt": ["head.0.*"]}, {"steps": 2}, {"head": "learned"}):
        assert not broken(**inner)
    assert broken(flat) == ["inner.head"]  # and there are no such layers


def test_least_outer_rate_is_a_conflict_above_the_first_and_without_a_schedule():
    def broken(lr_min, schedule):
        return list(conflicting(outer={"lr": 1e-3, "lr_min": lr_min, "schedule": schedule}))

    assert broken(2e-3, "cosine") == ["outer.lr_min"]
    assert broken(1e-4, "constant") == ["outer.schedule"]
    assert broken(1e-3, "cosine") == broken(0.0, "constant") == broken(0.0, "cosine") == []


def test_weight_decay_that_would_turn_the_sign_of_weights_is_a_conflict():
    assert list(conflicting(outer={"lr": 1.0, "weight_decay": 1.0})) == ["outer.weight_decay"]
    assert not conflicting(outer={"lr": 1.0, "weight_decay": 0.99})


def test_multi_step_loss_of_one_step_is_a_conflict():
    assert list(conflicting(inner={"steps": 1}, outer={"multi_step_loss": 5})) == ["outer.multi_step_loss"]
    # More iterations than there are: a run that was shortened to be tried.
    assert not conflicting(inner={"steps": 2}, outer={"multi_step_loss": 5, "iterations": 2})


@pytest.mark.parametrize("source", IMAGE_SOURCES)
def test_class_split_of_another_source_is_a_conflict(source):
    for name in {"published", "vinyals", "seeded", "scripts"}:
        broken = conflicting(tasks={"source": source, "class_split": name}, model={"kind": "cnn"})
        assert bool(broken) == (name not in CLASS_SPLITS[source])


def test_rotations_of_a_class_that_is_held_back_count_as_classes():
    assert not conflicting(tasks={"source": "omniglot", "rotations": True, "held_back": 2})
    assert list(conflicting(tasks={"source": "omniglot", "rotations": True, "held_back": 1})) == ["tasks.held_back"]


def test_classes_held_back_must_do_for_a_task_that_is_scored_not_for_one_that_is_trained_on():
    assert not conflicting(tasks={"source": "glyphs", "held_back": 3}, evaluation={"ways": 3})


def test_resolved_recipe_breaks_no_rule():
    assert not conflicts(recipe(inner={"algorithm": "fomaml"}).resolved())


@pytest.mark.parametrize("tasks", [{"source": "glyphs"}, {"source": "folder", "channels": 1}])
def test_augmentation_of_grey_images_is_a_conflict(tasks):
    assert list(conflicting(tasks={**tasks, "augment": ["crop"]})) == ["tasks.augment"]
    assert not conflicting(tasks={**tasks, "augment": []})


@pytest.mark.parametrize("source", ["cifar-fs", "fc100", "mini-imagenet", "folder"])
def test_augmentation_of_colour_images_is_no_conflict(source):
    assert not conflicting(tasks={"source": source, "augment": ["flip", "crop", "colour"]})
