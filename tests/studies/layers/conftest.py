"""Small trained runs whose layers can be looked at."""

import pytest

from tests.helpers.running import TINY_IMAGES, train_tiny


@pytest.fixture
def deep(tmp_path):
    """A stack of three linear layers on linear regression."""
    return train_tiny(tmp_path / "deep", "linear-regression", "tasks.dimension=3", "model.depth=3", "inner.lr=0.05")


@pytest.fixture
def conv(tmp_path, with_glyphs):
    """Two conv blocks and one linear layer."""
    return train_tiny(tmp_path / "conv", "glyphs-5way-1shot", "tasks.shots=1", *TINY_IMAGES, "model.depth=2")


@pytest.fixture
def conv_with_stack(tmp_path, with_glyphs):
    """A conv block and three linear layers."""
    return train_tiny(tmp_path / "stack", "glyphs-5way-1shot", "tasks.shots=1", *TINY_IMAGES, "model.linear_layers=2")
