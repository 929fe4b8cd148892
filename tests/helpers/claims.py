"""Finished studies made by hand, for claims to be decided on."""

from dataclasses import replace

import numpy as np

from mamlcli.studies.claims.predictions import Study, value_key
from mamlcli.studies.sweeps.cell_result import Collapse, CollapseRecord
from mamlcli.studies.sweeps.scores import GridValue
from tests.helpers.studies import grid_result


def finished_study(loss, *, accuracy=None, key="glyphs-maml", cells=(), operators=None):
    scores = {
        "loss": {name: np.array(values, dtype=float) for name, values in loss.items()},
        "accuracy": {name: np.array(values, dtype=float) for name, values in (accuracy or {}).items()},
    }
    return Study(key, "glyphs, MAML", scores, replace(grid_result(), cells=tuple(cells)), operators or {})


def spread(mean, num=3):
    """Values around a mean that differ from seed to seed as any pair of cells would."""
    return mean + 0.01 * np.arange(num)


def bent(mean, by=0.005):
    """As `spread`, with one seed off the line, so that paired differences have a variance."""
    return spread(mean) + np.array([0.0, by, 0.0])


DEPTHS = {value_key(1): spread(1.0), value_key(2): bent(0.7), value_key(4): spread(0.2)}


def collapse_cell(*, layers, collapsed, difference=1e-7, num_parameters=100):
    record = CollapseRecord(num_parameters, collapsed, 12, difference, difference, tolerance=1e-4)
    cell = replace(grid_result().cells[0], value=GridValue(1, "none", layers), num_parameters=num_parameters)
    return replace(cell, collapse=Collapse(collapsed, record))
