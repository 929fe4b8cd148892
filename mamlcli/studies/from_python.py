"""Starts a study from Python, of a recipe or of parts that are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from mamlcli.recipe.files import load_recipe
from mamlcli.studies.start import run_study
from mamlcli.studies.sweeps.axes import sweep_over
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.run import CellEnd
from mamlcli.studies.sweeps.sweep import DEPTH, least_tasks
from mamlcli.training.given import Given, parts_given, with_given_parts
from mamlcli.training.start import override_words


def sweep(
    recipe: str | Path = "logistic",
    *overrides: str | Mapping[str, object],
    depths: Sequence[int] = (),
    layers: Sequence[int] = (),
    optimizers: Sequence[str] = (),
    seeds: int = 3,
    inner_lrs: Sequence[float] = (),
    jobs: int | None = None,
    on: str | None = None,
    per_gpu: int | None = None,
    folder: str | Path | None = None,
    network: nn.Module | Callable[[], nn.Module] | None = None,
    tasks: object = None,
    transform: object = None,
    on_end: Callable[[CellEnd], None] | None = None,
) -> StudyResult:
    """Train a recipe at every value of an axis with several seeds, and compare: a study of the paper.

    Args:
        recipe, overrides: as in `train`; the key of the axis is left to the study.
        depths: values of model.depth, as `mamlcli sweep-depth`.
        layers: values of model.linear_layers, as `mamlcli add-linear`.
        optimizers: values of inner.transform.name, as `mamlcli meta-opt`; with depths, the grid of both.
        seeds: how many, from the recipe's upwards.
        inner_lrs: inner learning rates to choose from for each value; by default the recipe's own.
        jobs: cells at a time, in processes; by default the cores, and 1 on a GPU.
        on: where: "local", "gpus[:N]", "slurm[:PROFILE]" or "tcp://HOST:PORT"; by default on each GPU where there are
            several, else here. See docs/cluster.md.
        per_gpu: cells at a time on each GPU; by default 1.
        folder: where the study goes, or one to finish; by default `runs/<study>-<recipe>-<number>`.
        network, tasks, transform: as in `train`; they are pickled for the processes, so their classes are defined in a
            file that can be imported. A network of your own has no depth to vary; `optimizers` may name "python", the
            transform that is given. Give a function that makes the network to have other first weights for each seed.
        on_end: called when a cell ends.

    Returns:
        The result of the cells that are done; `failures` names the others, `to_json()` is result.json.

    Raises:
        MamlError: mistakes in the recipe, the overrides and the values; no axis, or two that make no study.
        Interrupted: Ctrl-C; what was done is saved, and the same call with `folder` goes on.
    """
    where = "mamlcli.sweep"
    words = override_words(overrides, where=where)
    with parts_given(Given(network, tasks, transform)):
        name, loaded = load_recipe(str(recipe), words, overridden_by=where, rewritten=with_given_parts)
        study = sweep_over(
            name, loaded, depths=depths, layers=layers, optimizers=optimizers, num_seeds=seeds, inner_lrs=inner_lrs
        )
        study = replace(study, least_tasks=least_tasks(loaded, words))
        with_capacity = None if study.axis == DEPTH else False
        return run_study(study, folder, jobs=jobs, on=on, per_gpu=per_gpu, with_capacity=with_capacity, on_end=on_end)
