"""Families and finished studies made by hand, for claims to be decided on."""

from dataclasses import replace

import numpy as np

from mamlcli.studies.claims.claims import contrasts_of
from mamlcli.studies.claims.contrasts import CellValue
from mamlcli.studies.claims.decisions import one_look
from mamlcli.studies.claims.plan import FIRST_SEED, PILOT_SEEDS, Family, Plan
from mamlcli.studies.claims.predictions import Study
from mamlcli.studies.sweeps.cell_result import Collapse, CollapseRecord
from mamlcli.studies.sweeps.scores import GridValue
from tests.helpers.studies import grid_result

NUM_SEEDS = 4


def family(role, *values, **settings):
    """A family of (depth, layers, transform, width) tuples, or of what there is of them."""
    key = {"maml": "glyphs-maml", "anil": "glyphs-anil"}.get(role, role)
    values = tuple(value if isinstance(value, CellValue) else CellValue(*value) for value in values)
    return replace(Family(key, key.replace("-", ", "), role, "glyphs-5way-1shot", (), values), **settings)


def plan_of(*families, looks=None):
    looks = looks or one_look(NUM_SEEDS)
    versions = {"mamlcli": "0.2.0"}
    return Plan(
        "laptop",
        "by hand",
        looks,
        FIRST_SEED,
        PILOT_SEEDS,
        families,
        (),
        contrasts_of(families),
        versions,
        "2026-01-01",
    )


def study(of, *, cells=(), references=None, operators=None, **measures):
    """A study of a family; each measure maps value keys to one score for each seed from 100 upwards."""
    scores = {
        measure: {key: dict(enumerate(map(float, scores), start=FIRST_SEED)) for key, scores in by_value.items()}
        for measure, by_value in measures.items()
    }
    result = replace(grid_result(), cells=tuple(cells), references=references or {})
    return Study(of.key, of.words, of.role, scores, result, operators or {})


def around(mean, *, by=0.001, phase=0, num=NUM_SEEDS):
    """Scores of seeds around a mean, so that differences between two phases have a variance."""
    return mean + by * np.cos(np.arange(num) * 2.0 + phase)


def collapse_cell(*, layers, collapsed, difference=1e-7, num_parameters=100):
    record = CollapseRecord(num_parameters, collapsed, 12, difference, difference, tolerance=1e-4)
    cell = replace(grid_result().cells[0], value=GridValue(1, "none", layers), num_parameters=num_parameters)
    return replace(cell, collapse=Collapse(collapsed, record))
