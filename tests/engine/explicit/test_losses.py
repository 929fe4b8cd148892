"""Losses of many tasks: each task's own, with derivatives as torch takes them."""

import pytest
import torch
from torch.func import grad

from mamlcli.engine.explicit.losses import (
    FEW_CLASSES,
    loss_gradient,
    loss_gradient_tangent,
    task_accuracies,
    task_losses,
)
from mamlcli.engine.objective import accuracy, example_loss
from tests.helpers.numerics import derivative_along, normal

NUM_TASKS, NUM_EXAMPLES = 3, 7

# Sums of seven terms in another order: rounding alone.
TOLERANCE = {"rtol": 1e-13, "atol": 1e-14}


def classification(num_classes):
    targets = torch.arange(NUM_TASKS * NUM_EXAMPLES).view(NUM_TASKS, NUM_EXAMPLES) % num_classes
    return normal(NUM_TASKS, NUM_EXAMPLES, num_classes, key="outputs"), targets


def regression():
    return normal(NUM_TASKS, NUM_EXAMPLES, 1, key="outputs"), normal(NUM_TASKS, NUM_EXAMPLES, 1, key="targets")


# Softmax is taken in another layout up to FEW_CLASSES.
CASES = {"few": classification(FEW_CLASSES), "more": classification(FEW_CLASSES + 2), "regression": regression()}
EVERY_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@EVERY_CASE
def test_each_task_has_its_own_loss_and_accuracy(case):
    outputs, targets = case
    tasks = list(zip(outputs, targets, strict=True))
    torch.testing.assert_close(task_losses(*case), torch.stack([example_loss(*task) for task in tasks]), **TOLERANCE)
    expected = torch.stack([accuracy(*task) for task in tasks])
    torch.testing.assert_close(task_accuracies(*case), expected, equal_nan=True, **TOLERANCE)


@EVERY_CASE
def test_gradient_and_its_tangent_are_torchs(case):
    outputs, targets = case

    def gradient_of(values):
        return grad(lambda o: sum(example_loss(*task) for task in zip(o, targets, strict=True)))(values)

    found, saved = loss_gradient(outputs, targets)
    torch.testing.assert_close(found, gradient_of(outputs), **TOLERANCE)
    direction = normal(*outputs.shape, key="direction")
    expected = derivative_along(gradient_of, [outputs], [direction])
    torch.testing.assert_close(loss_gradient_tangent(saved, direction), expected, **TOLERANCE)
