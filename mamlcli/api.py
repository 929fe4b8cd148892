"""mamlcli from Python: train a recipe, load a run, adapt it to a task, classify with it. It never prints.

    import mamlcli

    run = mamlcli.train("sinusoid", "outer.iterations=2000")
    network = mamlcli.adapt(run, support_x, support_y)   # a torch.nn.Module
    y = network(query_x)

Mistakes raise `mamlcli.MamlError`, whose text says where, what was expected, what was found, and what to do next.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mamlcli.common.errors import MamlError
from mamlcli.deploy.classifier import SupportClassifier
from mamlcli.deploy.prediction import predict_run
from mamlcli.deploy.report import PredictionRequest
from mamlcli.deploy.tensors import checked_inputs, checked_support, network_with
from mamlcli.engine.networks import Network, Params
from mamlcli.engine.objective import MetaParams
from mamlcli.recipe.files import load_recipe
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.experiment import Experiment
from mamlcli.training.planned import Progress
from mamlcli.training.scoring import finished_result
from mamlcli.training.start import Start, default_path
from mamlcli.training.trained import num_inner_steps, open_trained, recipe_elsewhere

__all__ = ["MamlError", "Prediction", "Run", "adapt", "load", "predict", "train"]


PathLike: TypeAlias = str | Path


# What a support set or a query set may be: folders of images, or tensors.
Support: TypeAlias = PathLike | tuple[Tensor, Tensor]


Query: TypeAlias = PathLike | Tensor


@dataclass(frozen=True, repr=False)
class Run:
    """A trained run. `train` and `load` make it.

    Attributes:
        path: its directory.
        recipe: its recipe, resolved: every key with its value.
        report: its result on meta-test tasks, the content of evaluation.json; None if it was not scored.
        weights: which checkpoint `params` are: the best by meta-validation, else the last.
        params: theta, the learned initialisation: tensors by parameter name, on the run's device.
        transform_params: xi, the gradient transform's meta-parameters; empty without one.
    """

    path: Path
    recipe: Recipe
    report: dict[str, Any] | None
    weights: str
    params: Params
    transform_params: Params
    _experiment: Experiment = field(compare=False)

    @property
    def module(self) -> Network:
        """The network with the learned initialisation, a `torch.nn.Module` of its own at each call.

        [n, *input_shape] float -> [n, num_outputs]. It is not adapted to any task: see `adapt`.
        """
        return network_with(self._experiment.network, self.params)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, as (channels, height, width) or (dimension,)."""
        return self._experiment.network.input_shape

    @property
    def num_outputs(self) -> int:
        """The outputs of the network: the ways of its tasks, or 1 for regression."""
        last = self._experiment.network.head[-1]
        assert isinstance(last, torch.nn.Linear)
        return last.out_features

    @property
    def _meta(self) -> MetaParams:
        return MetaParams(self.params, self.transform_params)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.recipe.tasks.source}, {self.recipe.inner.algorithm}, {self.weights})"


@dataclass(frozen=True)
class Prediction:
    """What was predicted for query images.

    Attributes:
        classes: of image folders the names of the class folders; of tensors "0", "1", ...
        probabilities: [num_query, num_classes] float64 on the CPU.
        report: of image folders all that `mamlcli adapt --support --query --json` prints: accuracy, leave-one-out
            accuracy, warnings, skipped files; None for tensors.
    """

    classes: tuple[str, ...]
    probabilities: Tensor
    report: dict[str, Any] | None = None

    @property
    def indices(self) -> Tensor:
        """The most probable class of each query image, [num_query] int64."""
        return self.probabilities.argmax(dim=-1)

    @property
    def names(self) -> list[str]:
        """The name of the most probable class of each query image."""
        return [self.classes[index] for index in self.indices.tolist()]


def train(
    recipe: PathLike = "glyphs-5way-1shot",
    *overrides: str | Mapping[str, Any],
    run_dir: PathLike | None = None,
    resume: bool = False,
    force: bool = False,
    on_record: Callable[[Any], None] | None = None,
) -> Run:
    """Meta-train a recipe, score it on tasks it has never seen, and return the run; `mamlcli train` in Python.

    Args:
        recipe: the name of a shipped recipe, or a file.
        overrides: keys to change, `"inner.steps=5"` or `{"inner.steps": 5}`.
        run_dir: where the run goes; by default `runs/<recipe>-<number>` under the current folder.
        resume: continue the run in `run_dir`; one that is done is returned as it is.
        force: replace the run in `run_dir`.
        on_record: called after every meta-iteration and every meta-validation with what they gave (`StepRecord`,
            `ValidationRecord` of `mamlcli.engine.outer_loop`), for a progress bar or a plot.

    Returns:
        The run; `run.report` has the adaptation curve.

    Raises:
        RecipeError: every mistake in the recipe and the overrides at once.
        DataError, DeviceError: what the recipe needs is not here.
        RunError: `run_dir` is taken, or cannot be resumed.
        NonFiniteError: training diverged; the last good state is saved.
        Interrupted: Ctrl-C; the run is saved, and `resume=True` continues it.

    Example:
        run = mamlcli.train("glyphs-5way-1shot", {"model.depth": 2}, "seed=1")
        print(run.report["final"]["accuracy"])
    """
    words = [word for override in overrides for word in _words(override)]
    name, loaded = load_recipe(str(recipe), words, overridden_by="mamlcli.train")
    path = _path_of(run_dir, name, is_resumed=resume)
    start = Start(name, loaded, path, is_resumed=resume, is_forced=force)
    if start.finished() is None:
        with _threads_kept():
            start.train(argv=sys.argv, progress=Progress(on_record=on_record))
    return load(path)


def load(path: PathLike, *, device: str | None = None) -> Run:
    """Return a trained run; it needs its checkpoint and its recipe, not its data.

    Args:
        path: the run directory.
        device: "auto", "cpu", "cuda" or "cuda:N"; by default what the recipe says.

    Raises:
        RunError: there is no run, or none with a checkpoint.
        DeviceError: this machine does not have the device.
    """
    directory = RunDirectory.open(Path(path))
    with _threads_kept():
        trained = open_trained(directory, recipe_elsewhere(directory, where="mamlcli.load", device=device))
    report = finished_result(directory)
    return Run(
        path=directory.path,
        recipe=trained.recipe,
        report=report.to_json() if report else None,
        weights=trained.weights,
        params=trained.meta.model,
        transform_params=trained.meta.transform,
        _experiment=trained.experiment,
    )


def adapt(run: Run | PathLike, support_x: Tensor, support_y: Tensor, *, steps: int | None = None) -> Network:
    """Return the network adapted to one task by the run's inner loop: its rate, its steps, its gradient transform.

    phi_0 = theta;  phi_{k+1} = phi_k - alpha * U_xi(grad L_S(phi_k));  the network returned is that of phi_K.

    Args:
        run: a run, or its directory.
        support_x: [num_support, *input_shape] float, images in [0, 1]; or uint8 images, which are scaled.
        support_y: [num_support] int64, the outputs of the classes, each in [0, num_outputs); of regression
            [num_support] or [num_support, 1] float.
        steps: inner steps, K; by default those of the run's evaluation.

    Returns:
        A `torch.nn.Module` on the run's device, [n, *input_shape] float -> [n, num_outputs]; for classes the softmax
        of its outputs is their probability. Nothing of it is shared with the run. With batch norm its outputs for an
        input depend on the others of the batch: pass a task's query set as one batch, as in training; `predict` has
        no such condition.

    Raises:
        MamlError: tensors of other shapes or types, labels that are no output, or an inner loop that diverged.
    """
    found = _as_run(run)
    experiment = found._experiment
    x, y = checked_support(found._experiment, support_x, support_y)
    fast = experiment.objective(_steps(found, steps)).fast_weights(found.params, found.transform_params, x, y)
    diverged = [name for name, value in fast.items() if not value.isfinite().all()]
    if diverged:
        raise MamlError(
            "mamlcli.adapt",
            expected="finite weights",
            got=f"an inner loop that diverged ({diverged[0]})",
            next_step="Use fewer steps, or inputs like those of the run",
        )
    return network_with(experiment.network, {**found.params, **fast})


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

    Classes may be fewer than the network's outputs, and of unequal numbers of images; a single query image is fine:
    see `mamlcli.deploy.classifier.SupportClassifier` for how each is handled. `adapt` is the plain inner loop.

    Args:
        run: a classification run, or its directory.
        support: a folder with one folder of images for each class; or (x, y), x as in `adapt` and y [num_support]
            int64 with every class 0 ... num_classes - 1.
        query: a folder of images (or of class folders: then `report["accuracy"]` is there), one image file; or
            [num_query, *input_shape] float, or uint8 images.
        steps: inner steps; by default those of the run's evaluation.
        joint: batch norm takes the statistics of support and query images together, as in training; predictions then
            depend on the other query images.
        invert: folders only: "auto", "yes" or "no", exchange bright and dark.
        frame: folders only: "file" or "ink", cut drawings out as large as the run's.

    Raises:
        MamlError: a run that does not classify, or an option that does not suit.
        DataError: too few or too many classes, or no image that can be read.
    """
    found = _as_run(run)
    if isinstance(support, tuple) != isinstance(query, Tensor):
        raise MamlError(
            "mamlcli.predict", expected="support and query both as paths, or both as tensors", got="one of each"
        )
    if not isinstance(support, tuple):
        assert not isinstance(query, Tensor)
        device = str(found._experiment.device)
        request = PredictionRequest(Path(support), Path(query), invert, frame, _steps(found, steps), device, joint)
        with _threads_kept():
            predictions = predict_run(RunDirectory.open(found.path), request)
        report = predictions.report
        return Prediction(report.classes, torch.from_numpy(predictions.probabilities), report.to_json())
    assert isinstance(query, Tensor)
    if (invert, frame) != ("auto", "file"):
        raise MamlError("mamlcli.predict", expected="invert and frame for folders of images only", got="tensors")
    return _predict_tensors(found, support, query, steps, joint)


def _predict_tensors(
    run: Run, support: tuple[Tensor, Tensor], query: Tensor, steps: int | None, joint: bool
) -> Prediction:
    if not run.recipe.is_classification:
        raise MamlError(
            "mamlcli.predict",
            expected="a run that classifies",
            got=f"one of {run.recipe.tasks.source}",
            next_step="Use mamlcli.adapt(run, x, y)(query_x)",
        )
    x, y = checked_support(run._experiment, *support)
    num_classes = int(y.max()) + 1
    missing = sorted(set(range(num_classes)) - set(y.tolist()))
    if missing or num_classes < 2:
        got = f"none of class {missing[0]}" if missing else "class 0 alone"
        raise MamlError("support_y", expected="classes numbered from 0 without a gap, at least two", got=got)
    query_x = checked_inputs(run._experiment, query, "query")
    classifier = SupportClassifier(run._experiment.objective(_steps(run, steps)), run._meta, is_joint=joint)
    probabilities = classifier.classify(x, y, query_x).double().cpu()
    if not probabilities.isfinite().all():
        raise MamlError(
            "mamlcli.predict",
            expected="finite probabilities",
            got="an inner loop that diverged",
            next_step="Use fewer steps",
        )
    return Prediction(tuple(str(index) for index in range(num_classes)), probabilities)


# What the functions share ---------------------------------------------------------------------------------------


def _words(override: str | Mapping[str, Any]) -> list[str]:
    if isinstance(override, str):
        return [override]
    if not isinstance(override, Mapping):
        raise MamlError(
            "mamlcli.train", expected="overrides like 'inner.steps=5' or {'inner.steps': 5}", got=repr(override)
        )
    return [f"{key}={_yaml(key, value)}" for key, value in override.items()]


def _yaml(key: str, value: Any) -> str:
    """Return a value as JSON, which is YAML."""
    try:
        return json.dumps(str(value) if isinstance(value, Path) else value)
    except TypeError as error:
        raise MamlError(
            f"mamlcli.train: {key}", expected="a number, text, true or false, a list or None", got=repr(value)
        ) from error


def _path_of(run_dir: PathLike | None, name: str, *, is_resumed: bool) -> Path:
    if run_dir is not None:
        return Path(run_dir)
    if is_resumed:
        raise MamlError(
            "mamlcli.train",
            expected="run_dir with resume=True",
            got="none",
            next_step="Name the run: run_dir='runs/RECIPE-1'",
        )
    return default_path(name, is_resumed=False)


@contextlib.contextmanager
def _threads_kept() -> Iterator[None]:
    """Leave torch's number of threads as the caller had it, whatever suits a run."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _as_run(run: Run | PathLike) -> Run:
    return run if isinstance(run, Run) else load(run)


def _steps(run: Run, steps: int | None) -> int:
    if steps is not None and steps < 1:
        raise MamlError("steps", expected="an integer >= 1", got=repr(steps))
    return num_inner_steps(run.recipe, steps)
