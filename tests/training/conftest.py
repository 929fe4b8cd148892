"""Runs that several tests look at, and data that several build on."""

from __future__ import annotations

import pytest

from mamlcli.tasks.images.class_splits import published_classes
from tests.helpers.running import (
    noise_pack,
    train_tiny,
)


@pytest.fixture(scope="session")
def logistic(tmp_path_factory):
    """A run of a classification recipe, with validations."""
    path = tmp_path_factory.mktemp("runs") / "logistic-1"
    return train_tiny(path, "logistic", "validation.every=1", "validation.tasks=3", "inner.steps=2").path


@pytest.fixture(scope="session")
def regression(tmp_path_factory):
    """A run of a regression recipe, without validations."""
    return train_tiny(tmp_path_factory.mktemp("runs") / "sinusoid-1", "sinusoid", "evaluation.steps=3").path


@pytest.fixture
def cifar_of_two_splits(tmp_path):
    """The classes of meta-train and meta-validation, without those of meta-test."""
    splits = published_classes("cifar_fs")
    return noise_pack(tmp_path / "data" / "cifar-fs.npz", splits["train"] + splits["validation"])
