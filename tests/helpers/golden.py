"""Golden traces: a few meta-iterations of every method in float64, as numbers that later versions must reach again.

Run: python -m tests.helpers.golden    writes tests/training/golden_traces.json anew, which is right only where a
method was meant to change; the difference then shows which did.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from mamlcli.engine.outer_loop import StepRecord, train
from mamlcli.engine.state import new_state
from mamlcli.training.functions import training_execution, training_functions
from tests.helpers.running import built, noise_pack

FILE = Path(__file__).parents[1] / "training" / "golden_traces.json"

# Sums in another order, and functions of other libraries (1e-16 each), grown through three meta-iterations.
TOLERANCE = 1e-9

_KEYS = (
    "execution.dtype=float64",
    "execution.path=loop",
    "execution.threads=1",
    "outer.iterations=3",
    "outer.tasks=3",
    "outer.lr=0.01",
    "inner.steps=2",
    "model.width=4",
    "validation={every: 3, tasks: 4}",
)
_POINTS = ("sinusoid", "model.activation=tanh")
_IMAGES = ("folder", "tasks.ways=3", "tasks.shots=2", "tasks.queries=2", "tasks.image_size=8", "model.depth=2")

# What a trace is of: a recipe, and what is changed of it beside `_KEYS`.
CASES: dict[str, tuple[str, ...]] = {
    "maml": _POINTS,
    "fomaml": (*_POINTS, "inner.algorithm=fomaml"),
    "anil": (*_POINTS, "inner.algorithm=anil"),
    "boil": (*_POINTS, "inner.algorithm=boil"),
    "meta-sgd": (*_POINTS, "inner.transform=meta-sgd"),
    "meta-curvature": (*_POINTS, "inner.transform=meta-curvature"),
    "kfo": (*_POINTS, "inner.transform=kfo"),
    "kfo-mlp": (*_POINTS, "inner.transform=kfo-mlp"),
    "kfo, adapted": (*_POINTS, "inner.transform={name: kfo, adapted: true}"),
    "kfo, first order": (*_POINTS, "inner.transform=kfo", "inner.first_order=true"),
    "dense": (*_POINTS, "inner.transform=dense"),
    "rates of tensors and steps": (*_POINTS, "inner.rates=tensor-step"),
    "losses of all steps": (*_POINTS, "outer.multi_step_loss=2"),
    "constant memory": (*_POINTS, "inner.memory=constant"),
    "appended linear layers": (*_POINTS, "model.linear_layers=2"),
    "outer sgd, cosine, decay and clipping": (
        *_POINTS,
        "outer.optimizer=sgd",
        "outer.schedule=cosine",
        "outer.lr_min=0.001",
        "outer.weight_decay=0.1",
        "outer.clip_norm=0.5",
    ),
    "linear regression": ("linear-regression",),
    "logistic": ("logistic", "inner.transform=kfo"),
    "images, maml": _IMAGES,
    "images, anil": (*_IMAGES, "inner.algorithm=anil"),
    "images, boil": (*_IMAGES, "inner.algorithm=boil"),
    "images, kfo": (*_IMAGES, "inner.transform=kfo"),
    "images, head of zeros, scored by statistics of the support": (
        *_IMAGES,
        "inner.head=zero",
        "evaluation.batch_norm=support",
    ),
}


def trace(name: str, folder: Path) -> dict[str, object]:
    """Train one case and return its outer losses, its meta-validation and two numbers of each meta-parameter.

    Args:
        name: one of `CASES`.
        folder: for the pack of images.
    """
    recipe, *changes = CASES[name]
    if recipe == "folder":
        pack = noise_pack(folder / "noise.npz", [f"class {i}" for i in range(24)], shape=(8, 8, 1))
        changes += [f"tasks.path={pack}", "tasks.channels=1"]
    experiment = built(recipe, *_KEYS, *changes, splits=("train", "validation"))
    outer = experiment.outer_loop()
    state = new_state(experiment.initial_meta(), outer)
    functions = training_functions([experiment], training_execution(experiment))
    records = [record for _, record in train({0: state}, {0: outer}, *functions)]
    return {
        "outer_losses": [record.outer_loss for record in records if isinstance(record, StepRecord)],
        "validation": [
            value
            for record in records
            if not isinstance(record, StepRecord)
            for value in (record.loss, record.accuracy)
            if value is not None
        ],
        "meta_params": {key: _two_numbers(value) for key, value in sorted(state.params.items())},
    }


def _two_numbers(value: Tensor) -> list[float]:
    """Return a tensor's norm, and a sum in which every entry has a weight of its own."""
    flat = value.detach().double().flatten()
    return [float(flat.norm()), float(flat @ torch.arange(1, len(flat) + 1, dtype=torch.float64).cos())]


def main() -> None:
    """Write the traces of all cases."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        traces = {name: trace(name, Path(folder)) for name in CASES}
    FILE.write_text(json.dumps(traces, indent=1) + "\n")


if __name__ == "__main__":
    main()
