"""The control of appended layers: collapsed before adaptation, adapted as a shallow network at its own best rate."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mamlcli.common.errors import RunError
from mamlcli.engine.linear_stack import collapse_head
from mamlcli.engine.networks import apply_network
from mamlcli.engine.objective import MetaParams
from mamlcli.studies.sweeps import collapsed_control
from mamlcli.studies.sweeps.axes import linear_sweep
from mamlcli.studies.sweeps.collapsed_control import (
    ControlRecord,
    best_rate,
    control_record,
    has_control,
    is_control_kept,
    loss_of_guessing,
    read_control,
    shallow_recipe,
    write_control,
)
from mamlcli.studies.sweeps.finished import has_result
from mamlcli.studies.sweeps.sweep import cells_of
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.synthetic import LinearRegressionTasks, LogisticTasks
from mamlcli.training.scoring import evaluation_tasks, score
from mamlcli.training.trained import best_weights
from tests.helpers.studies import recipe_of, run_here, start_of

FEW = {"NUM_RATES": 3, "MOST_GROWTH": 1}
FEW_TASKS = 6


@pytest.fixture
def few(monkeypatch):
    """Try few rates on few tasks."""
    for name, value in FEW.items():
        monkeypatch.setattr(collapsed_control, name, value)


def collapsed_start(run, experiment):
    meta, _ = best_weights(run, experiment)
    network, params = collapse_head(experiment.network, experiment.objective().start(meta.model))
    return network, MetaParams(params, {})


def test_at_rate_zero_the_control_has_the_outputs_of_the_stack(shallow):
    run, experiment = start_of(shallow, 2, width=5, seed=11)
    network, collapsed = collapsed_start(run, experiment)
    nowhere = replace(experiment, recipe=shallow_recipe(run.recipe, {"inner.lr": 1e-30}), network=network)
    meta, _ = best_weights(run, experiment)
    tasks = evaluation_tasks(run.recipe)
    [of_control], [of_stack] = score(nowhere, [collapsed], tasks), score(experiment, [meta], tasks)
    # The last step of the one is the start of the other.
    np.testing.assert_allclose(of_control.column("query_loss", -1), of_stack.column("query_loss", 0), rtol=1e-12)
    x = torch.eye(3, dtype=torch.float64)
    expected = apply_network(experiment.network, meta.model, x)
    torch.testing.assert_close(apply_network(network, collapsed.model, x), expected)


def test_the_control_adapts_as_a_shallow_network_with_the_collapsed_weights(shallow, few):
    run, experiment = start_of(shallow, 1, width=5, seed=12)
    record = control_record(run, FEW_TASKS)
    # The other route: plain gradient descent on a softmax regression, unrolled by hand.
    _, collapsed = collapsed_start(run, experiment)
    distribution, spec = experiment.distributions["test"], run.recipe.evaluation
    episode = sample_tasks(distribution, seed=spec.seed, split="test", iteration=0, indices=range(spec.tasks))
    losses, accuracies = [], []
    for task in range(spec.tasks):
        x, y = episode.support_x[task], episode.support_y[task]
        weight, bias = collapsed.model["head.0.weight"].clone(), collapsed.model["head.0.bias"].clone()
        for _ in range(run.recipe.inner.steps):
            error = (torch.softmax(x @ weight.T + bias, -1) - torch.nn.functional.one_hot(y, 2)) / len(y)
            weight, bias = weight - record.inner_lr * error.T @ x, bias - record.inner_lr * error.sum(0)
        outputs = episode.query_x[task] @ weight.T + bias
        losses.append(float(torch.nn.functional.cross_entropy(outputs, episode.query_y[task])))
        accuracies.append(float((outputs.argmax(-1) == episode.query_y[task]).double().mean()))
    assert record.loss == pytest.approx(np.mean(losses), rel=1e-9)
    assert record.accuracy == pytest.approx(np.mean(accuracies))
    assert record.capped_loss == pytest.approx(np.mean(np.minimum(losses, math.log(2))), rel=1e-9)
    assert record.num_tasks == spec.tasks


def test_the_rate_is_the_best_of_those_tried_on_meta_validation(shallow, few):
    run, _ = start_of(shallow, 1, width=5, seed=13)
    record = control_record(run, FEW_TASKS)
    losses = dict(record.tried)
    assert record.inner_lr == min(losses, key=losses.__getitem__)
    assert len(losses) >= 5


@pytest.mark.parametrize("optimum", [0.013, 0.5, 30.0])
def test_the_grid_grows_until_its_best_is_inside_and_is_refined_there(optimum):
    tried = best_rate(lambda rate: math.log(rate / optimum) ** 2)
    best = min(tried, key=tried.__getitem__)
    # Half a step of sqrt(2) to either side is as close as a grid of this kind comes.
    assert abs(math.log(best / optimum)) <= math.log(2) / 4 + 1e-12
    assert min(tried) < best < max(tried)


def test_a_rate_that_diverges_is_never_the_best_and_a_flat_loss_ends():
    tried = best_rate(lambda rate: math.inf if rate > 0.3 else -rate)
    assert min(tried, key=tried.__getitem__) == pytest.approx(0.2 * math.sqrt(2))
    assert len(best_rate(lambda rate: 1.0)) <= 6 + 12 + 2


@pytest.mark.parametrize(("limit", "lowest"), [(2e-3, 0.1 / 2**6), (0.0, 0.1 / 2**9)])
def test_where_every_rate_of_the_grid_diverges_the_search_goes_down_to_the_last(limit, lowest):
    # 0.1 / 2^6 = 0.0016 is the first below 0.002; 0.1 / 2^9 = 0.0002 the last that is not below 1e-4.
    tried = best_rate(lambda rate: -rate if rate < limit else math.inf)
    assert min(tried) >= 1e-4
    assert lowest in tried
    assert any(map(math.isfinite, tried.values())) == (limit > 0)


def test_a_damaged_control_is_named_or_written_again(shallow, few):
    run, _ = start_of(shallow, 1, width=5, seed=14)
    write_control(run, FEW_TASKS)
    whole = read_control(run.path)
    (run.path / "control.json").write_text('{"tried": []}')
    assert has_control(run.path)
    assert not is_control_kept(run.path)
    with pytest.raises(RunError, match=r"control\.json: expected a record that can be read"):
        read_control(run.path)
    write_control(run, FEW_TASKS)
    assert replace(read_control(run.path), wall_s=whole.wall_s) == whole
    assert is_control_kept(run.path)


def test_a_record_comes_back_from_its_json():
    record = ControlRecord(((0.1, 1.5), (0.2, math.nan)), 0.1, 200, 1000, math.nan, 0.4, 1.55)
    value = record.to_json()
    assert value["loss"] is None
    assert repr(ControlRecord.from_json(value)) == repr(record)


def test_the_loss_of_guessing_is_that_of_the_best_constant():
    tasks = LinearRegressionTasks(
        dimension=3, shots=4, queries=50, condition_number=10.0, noise=0.5, dtype=torch.float64
    )
    targets = tasks.sample([torch.Generator().manual_seed(i) for i in range(4000)]).query_y
    # The mean of 4000 tasks is within some 2 % of its expectation.
    assert loss_of_guessing(tasks) == pytest.approx(float(targets.square().mean()) / 2, rel=0.05)
    assert loss_of_guessing(LogisticTasks(dimension=3, shots=4, queries=4)) == math.log(2)


def test_a_run_without_appended_layers_has_no_control_and_needs_none(shallow):
    with pytest.raises(RunError, match=r"a run with appended linear layers"):
        control_record(shallow, FEW_TASKS)
    assert has_control(shallow.path)
    write_control(shallow, FEW_TASKS)
    assert read_control(shallow.path) is None


def test_a_study_with_controls_counts_a_cell_as_done_only_with_its_control(tmp_path, few):
    sweep = linear_sweep("logistic", recipe_of("logistic"), layers=[0, 1], num_seeds=1)
    sweep, path = replace(sweep, control_tasks=FEW_TASKS), tmp_path / "study"
    run_here(sweep, path)
    plain, stacked = (path / "cells" / cell.name for cell in cells_of(sweep))
    assert has_result(sweep, plain)
    assert has_result(sweep, stacked)
    first, trained = read_control(stacked), (stacked / "metrics.jsonl").read_text()
    (stacked / "control.json").unlink()
    assert not has_result(sweep, stacked)
    run_here(sweep, path)
    # The control was made again, without training again.
    assert replace(read_control(stacked), wall_s=first.wall_s) == first
    assert (stacked / "metrics.jsonl").read_text() == trained
