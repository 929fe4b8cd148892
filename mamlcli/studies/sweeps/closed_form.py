"""Closed forms of linear regression are added to a study of depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import torch

from mamlcli.common.statistics import Score, summary
from mamlcli.engine.networks import linear
from mamlcli.engine.objective import MetaParams
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.tasks_schema import LinearRegressionTasks
from mamlcli.studies.sweeps.result import ClosedForm, StudyResult
from mamlcli.studies.sweeps.sweep import DEPTH, LAYERS, Sweep
from mamlcli.tasks import closed_forms, synthetic
from mamlcli.training.experiment import Experiment
from mamlcli.training.scoring import ScoredTasks, score_each


def add_closed_form(result: StudyResult, sweep: Sweep, experiment: Experiment) -> StudyResult:
    """Return the result of a study with the closed forms of linear regression, where they apply: depth, linear models.

    Args:
        result: of the study.
        sweep: the study.
        experiment: of any of its cells; its meta-test tasks are used.
    """
    recipe = sweep.recipe
    is_linear = isinstance(recipe.tasks, LinearRegressionTasks) and recipe.model.kind == "linear"
    if sweep.axis != DEPTH or not is_linear or recipe.inner.transform.name != "none":
        return result
    # The forms are those of one layer that adapts: at depth 1 the model must be that.
    adapts = any(fnmatchcase("head.0.weight", pattern) for pattern in recipe.inner.adapt or ["*"])
    if getattr(recipe.model, "linear_layers", 0) or not adapts:
        return result
    shallow = [cell.inner_lr for cell in result.cells if cell.value == 1]
    inner_lr = shallow[0] if shallow else recipe.inner.lr
    seeds = [recipe.evaluation.seed] if sweep.has_common_tasks else sweep.seeds
    return replace(result, closed_form=closed_form(experiment, inner_lr=inner_lr, task_seeds=seeds))


def closed_form(experiment: Experiment, *, inner_lr: float, task_seeds: Sequence[int]) -> ClosedForm:
    """Return what is known of linear regression without training, for the meta-test tasks of an experiment.

    Losses include label noise. The derivations are in docs/algorithms.md, under "Closed forms".

    Args:
        experiment: any with these tasks.
        inner_lr: of the shallow model.
        task_seeds: values of `evaluation.seed`, whose meta-test tasks are taken together.
    """
    recipe, spec = experiment.recipe, experiment.recipe.evaluation
    num_steps = spec.steps or recipe.inner.steps
    distribution = experiment.distributions[spec.split]
    assert isinstance(distribution, synthetic.LinearRegressionTasks)
    input_cov, task_cov = distribution.input_covariance(), distribution.task_covariance()
    floor = distribution.noise**2 / 2
    infinite = closed_forms.shallow_loss_infinite_support(input_cov, task_cov, inner_lr=inner_lr, num_steps=num_steps)
    finite = {"shots": distribution.shots, "noise": distribution.noise}
    best = closed_forms.optimal_preconditioner(input_cov, task_cov, **finite)
    one_step = closed_forms.shallow_loss_one_step(
        input_cov, task_cov, inner_lr=inner_lr, query_noise=distribution.noise, **finite
    )
    preconditioned = closed_forms.preconditioned_loss_one_step(
        best, input_cov, task_cov, query_noise=distribution.noise, **finite
    )
    return ClosedForm(
        inner_lr=inner_lr,
        inner_steps=num_steps,
        shallow_infinite_support=float(infinite) + floor,
        shallow_from_zero=_shallow_from_zero(experiment, inner_lr, task_seeds),
        shallow_one_step=float(one_step),
        preconditioned_one_step=float(preconditioned),
        noise_floor=floor,
    )


def _shallow_from_zero(experiment: Experiment, inner_lr: float, task_seeds: Sequence[int]) -> Score:
    spec = experiment.recipe.evaluation
    recipe = changed_recipe(
        experiment.recipe, {DEPTH: 1, LAYERS: 0, "inner.lr": inner_lr, "inner.adapt": None}, "closed form"
    )
    network = linear(experiment.network.input_shape, 1, depth=1, bias=False)
    shallow = replace(experiment, recipe=recipe, network=network)
    zero = MetaParams(
        {name: torch.zeros_like(value, dtype=experiment.dtype) for name, value in network.named_parameters()}, {}
    )
    tasks = ScoredTasks(spec.split, spec.tasks, spec.steps, with_references=False)
    of_seeds = [
        replace(shallow, recipe=changed_recipe(recipe, {"evaluation.seed": seed}, "closed form")) for seed in task_seeds
    ]
    evaluations = score_each(of_seeds, [zero] * len(of_seeds), tasks)
    return summary(np.concatenate([evaluation.column("query_loss", -1) for evaluation in evaluations]))
