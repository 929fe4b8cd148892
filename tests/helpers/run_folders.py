"""What tests of finished runs share: tables as text, changes to a run's files, and its scores read by numpy alone."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from mamlcli.runs.manifest import Manifest
from tests.helpers.terminal import as_shown

# Names of runs and recipes that users may give.
NAMES = ("with space", "two\nlines", "Ωμέγα 中文", "[red]markup[/red]", "a|b_c%d&e", "\x1b[31mescape", "- 1", "' \"")


def shown(parts, width=80):
    """Return what a terminal of that width shows."""
    return as_shown(parts, width)


def change_manifest(run, **changes):
    """Change keys in the manifest.json of a run's folder."""
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def with_manifest(entry, **changes):
    """Return a run as if its manifest had these keys."""
    return dataclasses.replace(entry, manifest=Manifest({**entry.manifest, **changes}))


def query_scores(run):
    """Return the query losses and accuracies after the last inner step, [num_tasks, 2]."""
    table = np.genfromtxt(run / "tasks.csv", delimiter=",", names=True)
    last = table[table["inner_step"] == table["inner_step"].max()]
    return np.stack([last["query_loss"], last["query_accuracy"]], axis=1)
