"""From finished runs to scores by seed."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from mamlcli.common.errors import NonFiniteError
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.contrasts import COLLAPSED, CellValue
from mamlcli.studies.claims.decisions import log_odds
from mamlcli.studies.claims.evidence import (
    guessing_loss,
    guessing_scores,
    is_diverged,
    operator_report,
    scores_of_run,
    study_of_family,
)
from mamlcli.studies.sweeps.cells import run_cells
from mamlcli.studies.sweeps.collapsed_control import ControlRecord
from mamlcli.studies.sweeps.collection import collect
from mamlcli.studies.sweeps.finished import finished_cell
from mamlcli.studies.sweeps.scores import GridValue
from mamlcli.studies.sweeps.sweep import AxisValue, Sweep, cells_of
from tests.helpers.claims import family
from tests.helpers.studies import TINY, grid_result, payloads, run_here


def sweep_of(of, name, *, num_seeds=1):
    _, recipe = load_recipe(name, [*TINY, "seed=100", "evaluation.seed=100"])
    values = [
        AxisValue(
            GridValue(value.depth, value.optimizer, value.layers),
            value.key,
            {"model.depth": value.depth, "model.linear_layers": value.layers, "inner.transform.name": value.optimizer},
            "reproduce",
        )
        for value in of.values
    ]
    return Sweep("reproduce", "axis", name, recipe, tuple(values), num_seeds=num_seeds)


def result_of(sweep, path):
    """The result of what is done, though cells are missing."""
    cells = cells_of(sweep)
    finished = [
        finished_cell(sweep, value, [c for c in cells if c.value is value], path, failed=(), diverged=())
        for value in sweep.values
    ]
    found = collect(finished, (), num_seeds=sweep.num_seeds)
    return replace(grid_result(), cells=found.cells, seeds=sweep.seeds, directory=str(path))


def test_scores_of_a_family_are_those_of_its_runs_by_seed(tmp_path):
    of = family("logistic", (1,), (1, 0, "kfo"))
    sweep = sweep_of(of, "logistic", num_seeds=2)
    run_here(sweep, tmp_path / "study", skip=["depth-1-kfo-seed-101"])
    study = study_of_family(of, result_of(sweep, tmp_path / "study"))
    assert (study.key, study.words, study.role) == (of.key, of.words, "logistic")
    assert {value: set(by_seed) for value, by_seed in study.scores["loss"].items()} == {
        "depth 1": {100, 101},
        "depth 1, kfo": {100},
    }
    run = RunDirectory(tmp_path / "study/cells/depth-1-seed-101")
    final = run.read_report().final
    assert study.scores["loss"]["depth 1"][101] == final.mean("loss")
    assert study.scores["log_odds"]["depth 1"][101] == pytest.approx(float(log_odds(final.mean("accuracy"))))
    of_tasks = run.read_scores()[:, -1, 2]
    assert study.scores["capped_loss"]["depth 1"][101] == pytest.approx(np.minimum(of_tasks, math.log(2)).mean())
    assert study.operators == {}


def test_a_training_that_diverged_scores_as_guessing_does(tmp_path):
    of = family("linear-regression", (1,), (2,))
    sweep = sweep_of(of, "linear-regression")
    jobs = payloads(sweep, tmp_path)
    run_here(sweep, tmp_path, skip=["depth-2-seed-100"])
    [cell] = jobs["depth-2-seed-100"]
    with pytest.raises(NonFiniteError):
        run_cells((replace(cell, recipe=changed_recipe(cell.recipe, {"inner.lr": 1e20}, "test")),), lambda: False)
    run = RunDirectory(tmp_path / "cells/depth-2-seed-100")
    assert is_diverged(run)
    study = study_of_family(of, result_of(sweep, tmp_path))
    # (tr(Sx St) + noise^2) / 2 of three inputs with variances 1, 0.1, 0.01, weights of variance 1 and noise 0.3.
    guessing = (1.11 + 0.09) / 2
    assert study.scores["loss"]["depth 2"] == pytest.approx({100: guessing})
    assert study.scores["capped_loss"]["depth 2"] == pytest.approx({100: guessing})
    assert study.scores["operator_distance"]["depth 2"] == {100: 1.0}
    assert "log_odds" not in study.scores
    trained = RunDirectory(tmp_path / "cells/depth-1-seed-100")
    assert not is_diverged(trained)
    assert study.scores["operator_distance"]["depth 1"][100] == operator_report(trained).all_steps.distance_scaled
    assert [len(reports) for reports in study.operators.values()] == [1, 0]


def test_a_run_that_is_not_done_has_no_score(tmp_path):
    of = family("logistic", (1,), (1, 0, "kfo"))
    sweep = sweep_of(of, "logistic")
    run_here(sweep, tmp_path, skip=["depth-1-kfo-seed-100"])
    [cell] = payloads(sweep, tmp_path)["depth-1-kfo-seed-100"]
    run = RunDirectory.create(cell.path, cell.recipe, "logistic")
    run.update_manifest({"status": "interrupted", "reason": "interrupted"})
    assert set(study_of_family(of, result_of(sweep, tmp_path)).scores["loss"]) == {"depth 1"}


def test_controls_stand_beside_their_stacks(tmp_path):
    of = family("maml", (1,), (1, 1))
    sweep = sweep_of(of, "logistic")
    run_here(sweep, tmp_path)
    control = ControlRecord(((0.1, 0.6),), 0.1, 200, 12, 0.65, 0.75, 0.6)
    stack = RunDirectory(tmp_path / "cells/depth-1-1-linear-layer-seed-100")
    stack.write_json("control.json", control.to_json())
    scores = study_of_family(of, result_of(sweep, tmp_path)).scores
    key = CellValue(1, 1).key + COLLAPSED
    assert scores["loss"][key] == {100: 0.65}
    assert scores["capped_loss"][key] == {100: 0.6}
    assert scores["log_odds"][key] == pytest.approx({100: math.log(3.0)})
    assert set(scores["loss"]) == {"depth 1", "depth 1, 1 linear layer", key}


def test_the_control_of_a_stack_that_diverged_scores_as_guessing_does(tmp_path):
    of = family("maml", (1,), (1, 1))
    sweep = sweep_of(of, "logistic")
    run_here(sweep, tmp_path, skip=["depth-1-1-linear-layer-seed-100"])
    [cell] = payloads(sweep, tmp_path)["depth-1-1-linear-layer-seed-100"]
    run = RunDirectory.create(cell.path, cell.recipe, "logistic")
    run.update_manifest({"status": "failed", "reason": "loss: expected a finite one", "error": "NonFiniteError"})
    scores = study_of_family(of, result_of(sweep, tmp_path)).scores
    stack = CellValue(1, 1).key
    guessing = {"loss": math.log(2), "capped_loss": math.log(2), "log_odds": 0.0}
    for measure, number in guessing.items():
        assert scores[measure][stack] == scores[measure][stack + COLLAPSED] == pytest.approx({100: number})


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ({"error": "NonFiniteError", "reason": "a loss"}, True),
        ({"error": "RunError", "reason": "runs/diverged/a: The inner loop diverged/x"}, False),
        ({"reason": "loss: expected a finite one. The inner loop diverged, most often because"}, True),  # older version
        ({"reason": "runs/diverged/a: expected a pack"}, False),
    ],
)
def test_a_run_diverged_where_its_error_says_so_and_not_its_path(tmp_path, noted, expected):
    run = RunDirectory.create(tmp_path / "run", load_recipe("logistic")[1], "logistic")
    run.update_manifest({"status": "failed", **noted})
    assert is_diverged(run) is expected
    run.update_manifest({"status": "interrupted"})
    assert not is_diverged(run)


def test_losses_that_are_no_numbers_count_as_guessing(tmp_path):
    of = family("logistic", (1,))
    sweep = sweep_of(of, "logistic")
    run_here(sweep, tmp_path)
    run = RunDirectory(tmp_path / "cells/depth-1-seed-100")
    of_tasks = run.read_scores()
    of_tasks[:, -1, 2] = [math.nan, math.inf, 100.0, *[0.1] * 9]
    run.write_scores(of_tasks)
    capped = (3 * math.log(2) + 9 * 0.1) / 12
    found = scores_of_run(run, math.log(2))
    assert found.by_measure["capped_loss"] == found.by_measure["loss"] == pytest.approx(capped)
    [note] = study_of_family(of, result_of(sweep, tmp_path)).notes
    assert note.startswith("logistic, depth 1, seed 100: the query loss of a task is not finite")
    of_tasks[:, -1, 2] = 5e5  # a poor mean, but a mean
    run.write_scores(of_tasks)
    assert scores_of_run(run, math.log(2)).by_measure["loss"] == run.read_report().final.mean("loss")
    assert study_of_family(of, result_of(sweep, tmp_path)).notes == ()


@pytest.mark.parametrize(("name", "ways"), [("logistic", 2), ("glyphs-5way-1shot", 5), ("omniglot-20way-1shot", 20)])
def test_guessing_among_classes_is_one_in_their_number(name, ways):
    recipe = load_recipe(name)[1]
    guessing = guessing_loss(recipe)
    assert guessing == pytest.approx(math.log(ways))
    scores = guessing_scores(recipe, guessing)
    assert scores == pytest.approx({"loss": guessing, "capped_loss": guessing, "log_odds": -math.log(ways - 1)})


def test_operators_are_read_from_where_they_were_kept(tmp_path):
    of = family("linear-regression", (1,))
    sweep = sweep_of(of, "linear-regression")
    run_here(sweep, tmp_path)
    run = RunDirectory(tmp_path / "cells/depth-1-seed-100")
    first = operator_report(run)
    kept = json.loads((run.path / "operators.json").read_text())
    assert kept["all_steps"]["distance_scaled"] == first.all_steps.distance_scaled
    assert operator_report(run).all_steps.operator == pytest.approx(first.all_steps.operator)
    (run.path / "operators.json").write_text(json.dumps({"optimal": 3}))  # damaged: written again
    assert operator_report(run).all_steps.operator == pytest.approx(first.all_steps.operator)
    assert json.loads((run.path / "operators.json").read_text()) == kept


def test_an_operator_that_is_not_finite_is_the_farthest_and_not_drawn(tmp_path):
    of = family("linear-regression", (1,))
    sweep = sweep_of(of, "linear-regression")
    run_here(sweep, tmp_path)
    run = RunDirectory(tmp_path / "cells/depth-1-seed-100")
    operator_report(run)
    kept = json.loads((run.path / "operators.json").read_text())
    rows = kept["all_steps"]["operator"]
    kept["all_steps"] |= {"operator": [[None, *row[1:]] for row in rows], "distance_scaled": None, "distance": None}
    run.write_json("operators.json", kept)
    study = study_of_family(of, result_of(sweep, tmp_path))
    assert study.scores["operator_distance"] == {"depth 1": {100: 1.0}}
    assert study.operators == {"depth 1": []}
    assert np.isnan(operator_report(run).all_steps.spectrum).all()
