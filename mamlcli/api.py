"""mamlcli from Python: train a recipe, load a run, adapt it, classify with it, run a study. It never prints.

    import mamlcli

    run = mamlcli.train("sinusoid", "outer.iterations=2000")
    network = mamlcli.adapt(run, support_x, support_y)   # a torch.nn.Module
    y = network(query_x)

Mistakes raise `mamlcli.MamlError`, whose text says where, what was expected, what was found, what to do next.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mamlcli.common.errors import Interrupted, MamlError
from mamlcli.common.files import expanded
from mamlcli.deploy.prediction import predict_run
from mamlcli.deploy.report import PredictionRequest
from mamlcli.deploy.tensors import Prediction, adapted_network, class_probabilities, network_with
from mamlcli.engine.foreign import with_batch_statistics
from mamlcli.engine.networks import Params
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.outer_loop import Record
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.from_python import compare
from mamlcli.runs.models import label_of
from mamlcli.studies.from_python import sweep
from mamlcli.studies.start import reproduce
from mamlcli.tasks.few_shot_data import few_shot_tasks
from mamlcli.training.experiment import Experiment
from mamlcli.training.given import Given, parts_given
from mamlcli.training.placement import process_kept
from mamlcli.training.planned import Progress
from mamlcli.training.rescoring import adapt_run, protocol_words
from mamlcli.training.scoring import finished_result
from mamlcli.training.start import override_words, start_of
from mamlcli.training.trained import num_inner_steps, open_trained, recipe_elsewhere

__all__ = [
    "Interrupted",
    "MamlError",
    "Prediction",
    "Run",
    "adapt",
    "compare",
    "few_shot_tasks",
    "load",
    "predict",
    "reproduce",
    "score",
    "sweep",
    "train",
    "with_batch_statistics",
]

PathLike: TypeAlias = str | Path

# What a support set or a query set may be: folders of images, or tensors.
Support: TypeAlias = PathLike | tuple[Tensor, Tensor]
Query: TypeAlias = PathLike | Tensor
Override: TypeAlias = str | Mapping[str, object]  # "inner.steps=5", or {"inner.steps": 5}


@dataclass(frozen=True, repr=False)
class Run:
    """A trained run. `train` and `load` make it.

    Attributes:
        path: its directory.
        recipe: its recipe, resolved: every key with its value.
        report: its result on meta-test tasks, the content of evaluation.json; None if it was not scored.
        weights: which checkpoint `params` are: the best by meta-validation, else the last.
        params: phi_0, the initialisation of the whole network, tensors by parameter name, on the run's device.
        transform_params: xi, the gradient transform's meta-parameters; empty without one.
    """

    path: Path
    recipe: Recipe
    report: dict[str, Any] | None
    weights: str
    params: Params
    transform_params: Params
    _experiment: Experiment = field(compare=False)
    _meta: MetaParams = field(compare=False)
    _given: Given = field(compare=False)

    @property
    def module(self) -> nn.Module:
        """The network with the learned initialisation, a `torch.nn.Module` of its own at each call.

        [n, *input_shape] float -> [n, num_outputs]. It is not adapted to any task: see `adapt`.
        """
        return network_with(self._experiment.network, self.params).holder

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, as (channels, height, width) or (dimension,)."""
        return self._experiment.network.input_shape

    @property
    def num_outputs(self) -> int:
        """The outputs of the network: the ways of its tasks, or 1 for regression."""
        return self._experiment.network.num_outputs

    def __repr__(self) -> str:
        tasks, inner = self.recipe.tasks, self.recipe.inner
        return f"Run({label_of(self.path)!r}, {tasks.source}, {inner.algorithm}, {self.weights})"


@process_kept()
def train(
    recipe: PathLike | None = None,
    *overrides: Override,
    run_dir: PathLike | None = None,
    resume: bool = False,
    force: bool = False,
    start_from: PathLike | None = None,
    network: nn.Module | Callable[[], nn.Module] | None = None,
    tasks: object = None,
    transform: object = None,
    on_record: Callable[[Record], None] | None = None,
) -> Run:
    """Meta-train a recipe, score it on tasks it has never seen, and return the run; `mamlcli train` in Python.

    Args:
        recipe: a shipped recipe's name, or a file; by default that of the run in use, else glyphs-5way-1shot.
        overrides: keys to change, `"inner.steps=5"` or `{"inner.steps": 5}`.
        run_dir: where the run goes; by default `runs/<recipe>-<number>` under the current folder.
        resume, force: continue the run in `run_dir` (one that is done is returned as it is), or replace it.
        start_from: a trained run, or a model's name, whose weights a new run starts from.
        network: your own network in place of `model`: any torch.nn.Module, or a function that makes one.
        tasks: your own tasks in place of `tasks`: what `few_shot_tasks` returns, or an object with `sample`.
        transform: your own gradient transform, an object with `init` and `apply`. See docs/python.md for all three.
        on_record: called with the record of every meta-iteration and meta-validation (see `mamlcli.engine.outer_loop`).

    Raises:
        RecipeError: every mistake in recipe and overrides at once; DataError, DeviceError: what it needs is not here.
        RunError: `run_dir` is taken, or cannot be resumed; NonFiniteError: training diverged; Interrupted: Ctrl-C. The
            state is saved, and `resume=True` goes on.

    Example:
        run = mamlcli.train("glyphs-5way-1shot", {"model.depth": 2}, "seed=1")
        print(run.report["final"]["accuracy"])
    """
    where = "mamlcli.train"
    words = override_words(overrides, where=where)
    if resume and run_dir is None:
        raise MamlError(where, expected="run_dir with resume=True", got="none", next_step="Name it: run_dir='runs/X-1'")
    given = Given(network, tasks, transform)
    with parts_given(given):
        start = start_of(recipe, words, run_dir, start_from, is_resumed=resume, is_forced=force, changed_by=where)
        report = start.finished()
        if report is None:
            report = start.train(argv=sys.argv, progress=Progress(on_record=on_record))
        return _opened(start.path_of(report), given)


@process_kept()
def load(
    path: PathLike,
    *,
    device: str | None = None,
    network: nn.Module | Callable[[], nn.Module] | None = None,
    transform: object = None,
) -> Run:
    """Return a trained run, or a model that ships with mamlcli; its data need not be here.

    Args:
        path: the run directory, or the name of a trained model that ships with mamlcli, as in `mamlcli models ls`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps"; by default what the recipe says.
        network, transform: as in `train`, of a run that was trained with them; its weights are the run's.

    Raises:
        MamlError: there is no such run or model, no checkpoint, no such device, or not the network that it needs.
    """
    if not isinstance(path, str | Path):
        raise MamlError("mamlcli.load", expected="a run or model", got=repr(path), next_step="Run: mamlcli models ls")
    return _opened(expanded(path), Given(network, None, transform), device)


def _opened(path: Path, given: Given, device: str | None = None) -> Run:
    directory = RunDirectory.open(path)
    with parts_given(given):
        trained = open_trained(directory, recipe_elsewhere(directory, where="mamlcli.load", device=device))
    report = finished_result(directory)
    return Run(
        path=directory.path,
        recipe=trained.recipe,
        report=report.to_json() if report else None,
        weights=trained.weights,
        params=trained.experiment.objective().start(trained.meta.model),
        transform_params=trained.meta.transform,
        _experiment=trained.experiment,
        _meta=trained.meta,
        _given=given,
    )


@process_kept()
def adapt(run: Run | PathLike, support_x: Tensor, support_y: Tensor, *, steps: int | None = None) -> nn.Module:
    """Return the network adapted to one task by the run's inner loop: its rate, its steps, its gradient transform.

    phi_0 = theta;  phi_{k+1} = phi_k - alpha * U_xi(grad L_S(phi_k));  the network returned is that of phi_K.

    Args:
        run: a run, or its directory.
        support_x: [num_support, *input_shape] float, images in [0, 1]; or uint8 images, which are scaled.
        support_y: [num_support] int64, the outputs of the classes, each in [0, num_outputs); of a run with
            inner.head=zero or shared any from 0, and the network has an output for each; of regression
            [num_support] or [num_support, 1] float.
        steps: inner steps, K; by default those of the run's evaluation.

    Returns:
        A `torch.nn.Module` of its own on the run's device, [n, *input_shape] float -> [n, num_outputs]; for classes
        the softmax of its outputs is their probability. With batch norm, pass a task's query set as one batch, as in
        training: outputs depend on the others of the batch. `predict` has no such condition.

    Raises MamlError for tensors of other shapes or types, labels that are no output, a loop that diverged.
    """
    opened = _as_run(run)
    with parts_given(opened._given):
        num_steps = _steps(opened, steps)
        return adapted_network(opened._experiment, opened._meta, support_x, support_y, num_steps=num_steps).holder


@process_kept()
def predict(
    run: Run | PathLike,
    support: Support,
    query: Query,
    *,
    steps: int | None = None,
    joint: bool = False,
    invert: str = "auto",
    frame: str = "file",
) -> Prediction:
    """Adapt to the support set and return the probability of each class for each query image.

    Classes may be fewer than the network's outputs (with inner.head=zero or shared more, too), of unequal numbers of
    images; one query image is fine: see `mamlcli.deploy.classifier.SupportClassifier`. `adapt` is the plain inner loop.

    Args:
        run: a classification run, or its directory.
        support: a folder with one folder of images for each class; or (x, y), x as in `adapt` and y [num_support]
            int64 with every class 0 ... num_classes - 1.
        query: a folder of images (or of class folders: then `report["accuracy"]` is there), one image file; or
            [num_query, *input_shape] float, or uint8 images.
        steps: inner steps; by default those of the run's evaluation.
        joint: batch norm takes the statistics of support and query images together; a prediction depends on all.
        invert: folders only: "auto", "yes" or "no", exchange bright and dark.
        frame: folders only: "file" or "ink", cut drawings out as large as the run's.

    Raises:
        MamlError: a run that does not classify, or an option that does not suit.
        DataError: too few or too many classes, or no image that can be read.
    """
    with parts_given((opened := _as_run(run))._given):
        return _predicted(opened, support, query, steps=steps, joint=joint, invert=invert, frame=frame)


def _predicted(
    opened: Run, support: Support, query: Query, *, steps: int | None, joint: bool, invert: str, frame: str
) -> Prediction:
    where = "mamlcli.predict"
    if isinstance(support, tuple) and isinstance(query, Tensor):
        if (invert, frame) != ("auto", "file"):
            raise MamlError(where, expected="invert and frame for folders of images only", got="tensors")
        num_steps, meta = _steps(opened, steps), opened._meta
        probabilities = class_probabilities(
            opened._experiment, meta, support, query, num_steps=num_steps, is_joint=joint
        )
        return Prediction(tuple(map(str, range(probabilities.shape[1]))), probabilities)
    if isinstance(support, tuple) or isinstance(query, Tensor):
        raise MamlError(where, expected="support and query both as paths, or both as tensors", got="one of each")
    device = str(opened._experiment.device)
    request = PredictionRequest(expanded(support), expanded(query), invert, frame, _steps(opened, steps), device, joint)
    predictions = predict_run(RunDirectory.open(opened.path), request)
    report = predictions.report
    return Prediction(report.classes, torch.from_numpy(predictions.probabilities), report.to_json())


@process_kept()
def score(run: Run | PathLike, *changes: Override, tasks: object = None) -> dict[str, Any]:
    """Score a trained run again, as `mamlcli adapt RUN` does, and return the result; its files stay as they are.

    Args:
        run: a run, or its directory.
        changes: keys of evaluation, as `"evaluation.steps=10"` or `{"evaluation.tasks": 2000}`; and tasks.path.
        tasks: of a run whose tasks were given: those, or other data; what `train` returned has them still.

    Returns:
        What `run.report` holds.

    Raises MamlError for other keys, and where tasks that were given are not at hand.
    """
    opened, where = _as_run(run), "mamlcli.score"
    given = opened._given if tasks is None else Given(opened._given.network, tasks, opened._given.transform)
    with parts_given(given):
        words = protocol_words(override_words(changes, where=where), where=where)
        _, report = adapt_run(RunDirectory.open(opened.path), device=str(opened._experiment.device), changes=words)
    return report.to_json()


def _as_run(run: Run | PathLike) -> Run:
    return run if isinstance(run, Run) else load(run)


def _steps(run: Run, steps: int | None) -> int:
    if steps is not None and steps < 1:
        raise MamlError("steps", expected="an integer >= 1", got=repr(steps))
    return num_inner_steps(run.recipe, steps)
