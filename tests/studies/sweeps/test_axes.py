"""The three studies: their axes, the appended start, the collapse, closed forms, the capacity arm, figures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mamlcli.common.errors import MamlError, RecipeError, RunError
from mamlcli.common.names import TRANSFORMS
from mamlcli.common.statistics import Score
from mamlcli.engine.networks import apply_network
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.files import load_recipe, recipe_to_tree
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps.axes import depth_sweep, linear_sweep, optimizer_sweep
from mamlcli.studies.sweeps.capacity import capacity_jobs, run_capacity
from mamlcli.studies.sweeps.cell_result import (
    CapacityRecord,
    CellResult,
    Collapse,
    CollapseRecord,
    CurvePoint,
    FixedRateScores,
    RateCandidate,
)
from mamlcli.studies.sweeps.cells import run_cells
from mamlcli.studies.sweeps.closed_form import add_closed_form
from mamlcli.studies.sweeps.collapsed import collapse_record, export_collapsed
from mamlcli.studies.sweeps.folder import write_result
from mamlcli.studies.sweeps.from_trained import check_start_width, start_transform, write_start
from mamlcli.studies.sweeps.result import ClosedForm, Comparison, StudyResult
from mamlcli.studies.sweeps.run import cell_job
from mamlcli.studies.sweeps.scores import GridValue, Scores
from mamlcli.studies.sweeps.sweep import cells_of, check_sweep
from mamlcli.studies.sweeps.tables import interval_words, study_tables, value_table
from mamlcli.studies.sweeps.verdict import study_verdict
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from mamlcli.training.trained import best_weights
from tests.helpers.running import train_run
from tests.studies.sweeps.test_sweep import TINY

LOGISTIC = (*TINY, "execution.dtype=float64")


def recipe_of(name, *overrides):
    return load_recipe(name, [*LOGISTIC, *overrides])[1]


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    """A trained run of one linear layer."""
    recipe = recipe_of("logistic")
    run = RunDirectory.create(tmp_path_factory.mktemp("runs") / "shallow", recipe, "logistic")
    train_run(run, build(recipe, splits=splits_of_training(recipe)), argv=[])
    return run


# Axes ---------------------------------------------------------------------------------------------------------


def test_an_unknown_optimizer_is_refused_with_the_nearest_name():
    with pytest.raises(RecipeError, match=r"got 'kfo-mpl'\. Did you mean 'kfo-mlp'\?"):
        optimizer_sweep("logistic", recipe_of("logistic"), optimizers=["none", "kfo-mpl"], num_seeds=1)


def test_a_value_twice_is_refused():
    with pytest.raises(MamlError, match=r"--depths: expected each value once, got 2 twice"):
        depth_sweep("logistic", recipe_of("logistic"), depths=[1, 2, 2], num_seeds=1)


def test_every_optimizer_works_with_every_algorithm_adapted_or_not():
    for overrides in (
        ["inner.algorithm=maml"],
        ["inner.algorithm=anil"],
        ["inner.algorithm=fomaml"],
        ["inner.algorithm=anil", "inner.first_order=true"],
        ["inner.transform.parameters=[head.*]"],
        ["inner.transform.name=kfo", "inner.transform.adapted=true"],
    ):
        recipe = recipe_of("logistic", *overrides)
        check_sweep(optimizer_sweep("logistic", recipe, optimizers=TRANSFORMS, num_seeds=1))


def test_none_beside_adapted_transforms_has_nothing_to_adapt():
    recipe = recipe_of("logistic", "inner.transform.name=kfo", "inner.transform.adapted=true")
    cells = cells_of(optimizer_sweep("logistic", recipe, optimizers=["none", "meta-sgd"], num_seeds=1))
    assert [cell.recipe.inner.transform.adapted for cell in cells] == [False, True]


def test_a_grid_compares_optimizers_at_the_same_depth_and_depths_with_the_same_optimizer():
    sweep = optimizer_sweep("logistic", recipe_of("logistic"), optimizers=["none", "kfo"], depths=[1, 2], num_seeds=1)
    values = [value.value for value in sweep.values]
    pairs = {tuple((values[i].depth, values[i].optimizer) for i in pair) for pair in sweep.pairs}
    assert pairs == {
        ((1, "kfo"), (1, "none")),
        ((2, "kfo"), (2, "none")),
        ((2, "none"), (1, "none")),
        ((2, "kfo"), (1, "kfo")),
    }


# Appended layers ------------------------------------------------------------------------------------------------


def start_of(shallow, num_layers, width=None, seed=3):
    changes = {"model.linear_layers": num_layers, "model.linear_width": width, "seed": seed}
    recipe = changed_recipe(shallow.recipe, changes, "test")
    run = RunDirectory.create(shallow.path.parent / f"start-{num_layers}-{width}-{seed}", recipe, "logistic")
    experiment = build(recipe, splits=splits_of_training(recipe))
    write_start(run, experiment, shallow)
    return run, experiment


@pytest.mark.parametrize(("num_layers", "width"), [(0, None), (1, None), (2, 5)])
def test_layers_appended_to_a_run_leave_its_function_unchanged_at_the_start(shallow, num_layers, width):
    run, experiment = start_of(shallow, num_layers, width)
    source = build(shallow.recipe, splits=("test",))
    trained, _ = best_weights(shallow, source)
    longer, _ = best_weights(run, experiment)
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert len(experiment.network.head) == 1 + num_layers
    # Identities and zeros are exact in floating point; the sums gain only zeros.
    expected = apply_network(source.network, trained.model, x)
    assert torch.allclose(apply_network(experiment.network, longer.model, x), expected, rtol=0, atol=1e-15)


def test_a_started_run_trains_on_and_its_manifest_says_where_from(shallow):
    run, experiment = start_of(shallow, 2, seed=4)
    result = train_run(run, experiment, argv=[])
    assert run.manifest["started_from"]["run"] == str(shallow.path)
    assert run.manifest["status"] == "done"
    before = json.loads((shallow.path / "evaluation.json").read_text())["final"]["loss"]["mean"]
    assert result.report["final"]["loss"]["mean"] != before


def test_the_learned_transform_moves_up_with_the_last_layer_and_new_layers_start_as_the_identity():
    # Two square layers, two appended: all four weights have one shape, so that only the place tells them apart.
    eye, body, first, last = (torch.eye(2) * factor for factor in (1.0, 2.0, 3.0, 4.0))
    trained = {"body.0.weight/left": body, "head.0.weight/left": first, "head.1.weight/left": last}
    names = ["body.0.weight/left", *(f"head.{index}.weight/left" for index in range(4))]
    found = start_transform(trained, dict.fromkeys(names, eye), last=1, num_layers=2)
    assert [found[name][0, 0].item() for name in names] == [2.0, 3.0, 1.0, 1.0, 4.0]


def test_a_learned_transform_of_another_shape_starts_as_the_identity():
    fresh = {"head.0.weight/in": torch.eye(3), "head.1.weight/in": torch.eye(5)}
    found = start_transform({"head.0.weight/in": 7 * torch.eye(3)}, fresh, last=0, num_layers=1)
    assert all(torch.equal(found[name], value) for name, value in fresh.items())


@pytest.mark.parametrize("num_layers", [0, 2])
def test_a_start_from_a_run_with_a_transform_hands_it_to_the_last_layer(tmp_path, num_layers):
    recipe = recipe_of("logistic", "inner.transform=meta-sgd")
    source = RunDirectory.create(tmp_path / "source", recipe, "logistic")
    train_run(source, build(recipe, splits=splits_of_training(recipe)), argv=[])
    trained, _ = best_weights(source, build(recipe, splits=("test",)))
    longer = changed_recipe(recipe, {"model.linear_layers": num_layers}, "test")
    run = RunDirectory.create(tmp_path / "longer", longer, "logistic")
    experiment = build(longer, splits=splits_of_training(longer))
    write_start(run, experiment, source)
    found, _ = best_weights(run, experiment)
    scales = {name: value for name, value in found.transform.items() if "weight" in name}
    assert torch.equal(scales.pop(f"head.{num_layers}.weight/scale"), trained.transform["head.0.weight/scale"])
    assert all((value == 1).all() for value in scales.values())


def test_a_run_that_has_appended_layers_already_is_refused_as_a_start(shallow):
    run, _ = start_of(shallow, 1, seed=5)
    with pytest.raises(RunError, match="without appended linear layers"):
        linear_sweep("logistic", run.recipe, layers=[1], num_seeds=1, started_from=run.path)


def test_a_width_below_the_features_is_refused_as_a_start(shallow):
    recipe = changed_recipe(shallow.recipe, {"model.linear_width": 2}, "test")
    sweep = linear_sweep("logistic", recipe, layers=[1], num_seeds=1, started_from=shallow.path)
    with pytest.raises(MamlError, match=r"model\.linear_width: expected an integer >= 3"):
        check_start_width(sweep, check_sweep(sweep))


def test_adapted_stacks_collapse_to_the_same_outputs_and_the_shallow_size(shallow):
    run, experiment = start_of(shallow, 2, width=5, seed=6)
    record = collapse_record(run, experiment)
    assert record["largest_relative_difference"] <= 1e-10
    # 3 inputs and 2 outputs: 8 collapsed; as trained 3*5+5 + 5*5+5 + 5*2+2.
    assert (record["num_parameters"], record["num_parameters_collapsed"]) == (62, 8)


def test_the_exported_collapsed_weights_compute_what_the_run_computes(shallow, tmp_path):
    run, experiment = start_of(shallow, 2, seed=7)
    export_collapsed(run.path, tmp_path / "small.safetensors")
    with safe_open(str(tmp_path / "small.safetensors"), framework="pt") as archive:
        tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
        metadata = json.loads(archive.metadata()["mamlcli"])
    assert set(tensors) == {"head.0.weight", "head.0.bias"}
    assert metadata["recipe"]["model"]["linear_layers"] == 0
    meta, _ = best_weights(run, experiment)
    x = torch.eye(3, dtype=torch.float64)
    expected = apply_network(experiment.network, meta.model, x)
    assert torch.allclose(x @ tensors["head.0.weight"].T + tensors["head.0.bias"], expected, atol=1e-12)


def test_an_export_over_an_existing_file_is_refused_with_a_name_that_is_free(shallow, tmp_path):
    out = tmp_path / "small.safetensors"
    for name in ("small", "small-2"):
        (tmp_path / f"{name}.safetensors").write_text("mine")
    with pytest.raises(RunError, match=r"Name another: mamlcli add-linear \S+ --collapse \S+/small-3\.safetensors"):
        export_collapsed(shallow.path, out)
    assert out.read_text() == "mine"


def test_a_run_of_one_layer_has_nothing_to_collapse(shallow, tmp_path):
    with pytest.raises(RunError, match="a stack of linear layers"):
        export_collapsed(shallow.path, tmp_path / "small.safetensors")


# Depth: closed forms and capacity ---------------------------------------------------------------------------------


def shallow_result():
    return replace(depth_result(), cells=tuple(replace(cell, inner_lr=0.2) for cell in depth_result().cells[:1]))


def test_closed_form_of_the_shallow_model_matches_the_scalar_formula():
    # One input of variance 1, no noise, task weights of variance 1: 1/2 (1 - alpha)^(2K), alpha 0.2, K 3.
    recipe = recipe_of(
        "linear-regression",
        "tasks.dimension=1",
        "tasks.noise=0",
        "tasks.shots=2000",
        "inner.steps=3",
        "evaluation.tasks=400",
        "inner.lr=0.2",
    )
    sweep = depth_sweep("linear-regression", recipe, depths=[1], num_seeds=1)
    found = add_closed_form(shallow_result(), sweep, check_sweep(sweep)).closed_form
    expected = 0.5 * 0.8**6
    assert found.shallow_infinite_support == pytest.approx(expected)
    # Measured on 400 tasks; 2.5 half-widths are about 5 standard errors.
    measured = found.shallow_from_zero
    assert abs(measured.mean - expected) < 2.5 * measured.ci95
    assert found.preconditioned_one_step < found.shallow_one_step


@pytest.mark.parametrize("override", ["model.linear_layers=1", "inner.adapt=[head.*.bias]"])
def test_no_closed_form_where_the_shallow_model_is_not_one_layer_that_adapts(override):
    sweep = depth_sweep("linear-regression", recipe_of("linear-regression", override), depths=[1], num_seeds=1)
    assert add_closed_form(shallow_result(), sweep, experiment=None) == shallow_result()


def test_capacity_jobs_get_the_threads_of_the_cells(tmp_path):
    sweep = depth_sweep("logistic", recipe_of("logistic"), depths=[1, 2], num_seeds=1)
    jobs = capacity_jobs(sweep, tmp_path, num_threads=3)
    assert [job.payload["num_threads"] for job in jobs] == [3, 3]


def test_capacity_arm_reaches_the_floor_at_every_depth(tmp_path):
    losses = []
    for depth in (1, 2):
        recipe = recipe_of("linear-regression", f"model.depth={depth}", "tasks.condition_number=1")
        file = tmp_path / "capacity" / f"{depth}.json"
        run_capacity({"recipe": recipe_to_tree(recipe), "file": str(file), "num_threads": 1}, lambda: False)
        record = json.loads(file.read_text())
        assert record["num_converged"] == record["num_tasks"]
        losses.append(record["loss"]["mean"])
        # Noise 0.3: 0.045; 3 weights from 1000 points add 3 / 1000 of it.
        assert losses[-1] == pytest.approx(record["references"]["posterior mean"]["loss"]["mean"], rel=1e-2)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# Results ----------------------------------------------------------------------------------------------------------


def scores(**means):
    return Scores({metric: Score(mean, 0.01) for metric, mean in means.items()}, "seeds")


def comparison(a, b, mean, width=0.01):
    return Comparison(a, b, "accuracy", Score(mean, width), "seeds", 3)


def grid_result():
    values = [GridValue(depth, optimizer) for depth in (1, 2) for optimizer in ("none", "kfo")]
    cells = [
        CellResult(
            value,
            (0, 1, 2),
            (),
            0.1,
            (CurvePoint(0, scores(loss=0.5, accuracy=0.5)), CurvePoint(1, scores(loss=0.5, accuracy=0.6 + 0.05 * i))),
            10,
            5 * (i % 2),
        )
        for i, value in enumerate(values)
    ]
    protocol = {
        "inner_steps": 1,
        "num_tasks": 12,
        "split": "test",
        "per_class": False,
        "shots": 8,
        "queries": 8,
        "batch_norm": "none",
    }
    return StudyResult(
        "meta-opt",
        "model.depth x inner.transform.name",
        "logistic",
        (0, 1, 2),
        "runs/meta-opt-1",
        False,
        None,
        tuple(cells),
        (comparison(values[1], values[0], 0.05), comparison(values[3], values[2], 0.02, 0.03)),
        protocol,
        chance_accuracy=0.5,
    )


def test_the_grid_verdict_names_the_advantage_at_every_depth():
    result = grid_result()
    assert len(study_tables(result)) == 3
    assert study_verdict(result) == (
        "The best advantage over none, in accuracy points: +5.0 ± 1.0 at depth 1 (kfo), +2.0 ± 3.0 at depth 2 (kfo)."
    )


def test_the_best_of_several_says_that_the_choice_is_not_corrected():
    grid = grid_result()
    third = replace(grid.cells[1], value=GridValue(1, "dense"))
    more = comparison(third.value, grid.cells[0].value, 0.04)
    grid = replace(grid, cells=(*grid.cells, third), comparisons=(*grid.comparisons, more))
    assert "in accuracy points (best of 2 on meta-test, not corrected for the choice): +5.0" in study_verdict(grid)
    assert study_verdict(depth_result()).startswith(
        "Best of 2 on meta-test, not corrected for the choice: depth 2, accuracy 70.0 ± 1.0 %"
    )


def depth_result():
    result = grid_result()
    cells = tuple(replace(cell, value=depth) for depth, cell in zip((1, 2), result.cells[::2], strict=True))
    return replace(result, study="sweep-depth", axis="model.depth", cells=cells, comparisons=())


def notes(result):
    return " ".join(str(value_table(result).caption).split())


def test_notes_say_where_fewer_seeds_are_behind_a_line():
    result = depth_result()
    assert "over 3 seeds\n" in f"{interval_words(result)}\n"
    first, second = result.cells
    fewer = replace(result, cells=(first, replace(second, seeds=(0, 2))))
    assert interval_words(fewer).endswith("over 3 seeds (2: 2)")


def test_a_rate_at_the_edge_of_the_list_is_named():
    candidates = tuple(RateCandidate(rate, "done", 0.5) for rate in (0.5, 2.0, 8.0))

    def result_at(*rates):
        cells = zip(depth_result().cells, rates, strict=True)
        chosen = tuple(replace(cell, inner_lr=rate, candidates=candidates) for cell, rate in cells)
        return replace(depth_result(), inner_lr_is_chosen=True, cells=chosen)

    assert "inner lr of 1: chosen at the edge of --inner-lrs: a wider list may be fairer" in notes(result_at(8.0, 2.0))
    assert "edge" not in notes(result_at(2.0, 2.0))


def test_seeds_that_share_a_start_are_noted():
    assert "all seeds share that start" in notes(replace(depth_result(), started_from="runs/x-1"))
    assert "share" not in notes(depth_result())


def full_result():
    """A result with every part that one can have."""
    record = CollapseRecord(20, 8, 12, 1e-8, 1e-7, 1e-4)
    parts = [
        {"candidates": (RateCandidate(0.1, "done", 0.5), RateCandidate(9.0, "diverged", None))},
        {"collapse": Collapse(8, record)},
        {"capacity": CapacityRecord(over_tasks(loss=0.1), {"chance": over_tasks(loss=0.7)}, 1000, 5, 4, 3000)},
        {"at_fixed_rate": FixedRateScores(0.4, scores(loss=0.6))},
    ]
    cells = tuple(replace(cell, **part) for cell, part in zip(grid_result().cells, parts, strict=True))
    closed_form = ClosedForm(0.5, 3, 0.1, Score(0.2, 0.01), 0.3, 0.25, 0.045)
    references = {"posterior mean": over_tasks(loss=0.05)}
    return replace(
        grid_result(), cells=cells, references=references, failures=(("depth 3", "killed"),), closed_form=closed_form
    )


def over_tasks(**means):
    return replace(scores(**means), over="tasks")


@pytest.mark.parametrize("result", [grid_result(), depth_result(), full_result()], ids=["grid", "depth", "full"])
def test_a_result_is_read_from_json_as_it_was_written(result):
    assert StudyResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_a_result_of_an_older_study_opens_and_its_json_is_the_same_to_the_byte():
    # As `sweep-depth` has written it since the first release, a study with one seed, whose intervals are over tasks.
    score = {"mean": 0.5, "ci95_over_tasks": None}
    point = {"step": 0, "loss": score, "support_loss": {"mean": None, "ci95_over_tasks": None}}
    cell = {
        "value": 1,
        "seeds": [0],
        "run_dirs": ["runs/s/cells/depth-1-seed-0"],
        "inner_lr": 0.5,
        "loss": score,
        "curve": [point],
        "num_parameters": 3,
        "num_transform_parameters": 0,
    }
    difference = {"a": 2, "b": 1, "metric": "loss", "difference": score, "num_pairs": 12}
    old = {
        "study": "sweep-depth",
        "axis": "model.depth",
        "recipe": "linear-regression",
        "seeds": [0],
        "directory": "s",
        "inner_lr_is_chosen": False,
        "started_from": None,
        "cells": [cell],
        "comparisons": [difference],
        "protocol": {"num_tasks": 12},
        "references": {"posterior mean": {"loss": score}},
        "failed": [{"cell": "depth 3, seed 0", "reason": "killed"}],
    }
    assert json.dumps(StudyResult.from_json(old).to_json()) == json.dumps(old)


def test_figures_and_files_are_written(tmp_path):
    from PIL import Image

    write_result(tmp_path, grid_result())
    with Image.open(tmp_path / "figure.png") as picture:
        assert np.asarray(picture).std() > 0
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")
    assert StudyResult.from_json(json.loads((tmp_path / "result.json").read_text())) == grid_result()
    assert (tmp_path / "table.csv").read_text().splitlines()[0].startswith("depth,optimizer,")


def test_a_cell_of_add_linear_records_its_collapse(tmp_path):
    sweep = linear_sweep("logistic", recipe_of("logistic"), layers=[1], num_seeds=1)
    [cell] = cells_of(sweep)
    run_cells(cell_job(sweep, tmp_path, [cell], argv=[], num_threads=1).payload, lambda: False)
    record = json.loads((tmp_path / "cells" / "1-layer-seed-0" / "collapse.json").read_text())
    assert record["num_parameters_collapsed"] == 8
