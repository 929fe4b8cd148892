"""Small runs of every kind of task, which tests export."""

from __future__ import annotations

from tests.helpers.running import train_tiny

# A name with every character that Markdown, LaTeX, YAML or rich treat in a way of their own.
NASTY = "a|b_c%d&e #1 {x} $y$ ~ ^ \\ \"q\" 'z' `g` <h> -- ,, [k] *l* !m! @n ±"


def train_one_of_each(base):
    """Train a run of each kind of task below a folder, and return the folder."""
    train_tiny(base / "one", "logistic", "inner.steps=3")
    train_tiny(base / "two", "logistic", "inner.steps=3", "model.depth=2")
    train_tiny(base / "line", "linear-regression", "model.bias=false", "execution.dtype=float64")
    train_tiny(base / "sinusoid", "sinusoid", "model.linear_layers=1")
    train_tiny(base / "kfo", "logistic", "inner.transform=kfo")
    return base
