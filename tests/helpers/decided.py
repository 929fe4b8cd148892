"""Decided claims and studies with runs on disk, made by hand."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.contrasts import LOSS, Contrast, better
from mamlcli.studies.claims.decisions import Prediction, decide_one, one_look
from mamlcli.studies.claims.predictions import ClaimResult, ExactCheck, Row, Study
from mamlcli.studies.sweeps.scores import GridValue
from tests.helpers.studies import grid_result


def row(key, verdict, *, decides=True, differences=(0.1, 0.3, -0.1, 0.2)):
    """A prediction with a verdict of ours, whatever its differences say."""
    contrast = Contrast(key, "C1", "glyphs-maml", LOSS, key, better("depth 2", "depth 1", LOSS), 0.02, decides)
    name = f"glyphs, MAML: {key}, on query loss"
    decision = decide_one(Prediction(key, name, np.array(differences), 0.02), one_look(4))
    return Row(contrast, "glyphs, MAML", replace(decision, verdict=verdict))


def claim(verdict, rows=(), *, checks=(), missing=()):
    return ClaimResult("C1", "a statement", "a rule", verdict, tuple(rows), tuple(checks), tuple(missing))


CHECK = ExactCheck("outputs agree", 1e-9, 1e-6)


@contextmanager
def study_with_runs(seconds):
    """A study whose values have runs of these seconds."""
    with TemporaryDirectory() as folder:
        cells = []
        (Path(folder) / "cells").mkdir()
        for value, walls in seconds.items():
            paths = [Path(folder) / "cells" / f"{value.replace(' ', '-')}-seed-{100 + i}" for i in range(len(walls))]
            for path, wall in zip(paths, walls, strict=True):
                recipe = load_recipe("linear-regression", [])[1]
                RunDirectory.create(path, recipe, "linear-regression").update_manifest({"wall_s": wall})
            grid = GridValue(int(value.removeprefix("depth ")), "none", 0)
            cells.append(replace(grid_result().cells[0], value=grid, run_dirs=tuple(map(str, paths))))
        result = replace(grid_result(), cells=tuple(cells), directory=folder)
        yield Study("linear-regression", "linear regression", "linear-regression", {LOSS: {}}, result)
