"""Classify a user's own images with a trained run, which needs its checkpoint and its recipe but not its data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlcli.common.errors import DataError, MamlError, RunError
from mamlcli.common.statistics import proportion
from mamlcli.common.words import printable, shown
from mamlcli.deploy.classifier import SupportClassifier, as_inputs, left_out_indices
from mamlcli.deploy.report import (
    ImageSet,
    LeaveOneOut,
    PredictionReport,
    PredictionRequest,
    Predictions,
    accuracy_of,
    image_warnings,
    meta_test_of,
    predicted_images,
    size_warnings,
)
from mamlcli.recipe.schema import FolderTasks, ImageTasks, Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.tasks.images.ink import ImageRecord, image_record
from mamlcli.tasks.images.own import OwnImages, find_query, find_support, read_own_images
from mamlcli.tasks.images.sources import INVERT_CHOICES
from mamlcli.training.data import load_image_pack
from mamlcli.training.experiment import Experiment
from mamlcli.training.trained import noted_images, num_inner_steps, open_trained, recipe_elsewhere

# Each image left out is an adaptation of its own.
MAX_LEFT_OUT = 30


# One batch of all query images must fit into memory.
MAX_JOINT_IMAGES = 1000


OnProgress = Callable[[str, int, int], None]


def predict_run(run: RunDirectory, request: PredictionRequest, *, on_progress: OnProgress | None = None) -> Predictions:
    """Adapt a run's best weights to a support set and classify query images.

    Args:
        run: trained on images.
        request: what to classify by what.
        on_progress: is called with (what is done, done, in all).

    Raises:
        MamlError: the run was not trained on images, or an option does not suit; DataError: too few or too many
            classes, no query image; RunError: the run has no checkpoint.
    """
    told = on_progress or (lambda what, done, total: None)
    recipe = _recipe(run, request)
    record = stored_record(run, recipe)
    support = _support(request, record, recipe, told)
    query = read_own_images(
        find_query(request.query),
        record,
        invert=request.invert,
        frame=request.frame,
        progress=_part(told, "reading query images"),
    )
    _require_query(query, request)
    trained = open_trained(run, recipe)
    experiment = trained.experiment
    objective = experiment.objective(num_inner_steps(recipe, request.num_steps))
    classifier = SupportClassifier(objective, trained.meta, is_joint=request.is_joint)
    classes = _classes(support)
    labels = np.array([classes.index(str(name)) for name in support.class_names], dtype=np.int64)
    support_x, support_y = _inputs(support, experiment), torch.from_numpy(labels).to(experiment.device)
    query_x = _tensor(query.images, experiment)
    probabilities = classifier.classify(
        support_x, support_y, query_x, advance=_counted(told, "classifying", len(query_x))
    )
    finite = _checked(probabilities, request)
    images = predicted_images(query, classes, finite)
    report = PredictionReport(
        run=str(run.path),
        recipe=run.name,
        weights=trained.weights,
        inner_steps=objective.inner.num_inner_steps,
        num_outputs=classifier.num_outputs,
        num_assignments=min(classifier.num_outputs, classifier.num_assignments),
        batch_norm=getattr(recipe.model, "norm", "none"),
        depends_on_other_queries=request.is_joint and classifier.has_batch_statistics and len(query_x) > 1,
        frame=request.frame,
        preprocessing=record.preprocessing,
        support=ImageSet.of(support),
        shots={name: int((labels == index).sum()) for index, name in enumerate(classes)},
        query=ImageSet.of(query),
        classes=tuple(classes),
        predictions=images,
        accuracy=accuracy_of(images),
        leave_one_out=_leave_one_out(classifier, support_x, support_y, told),
        meta_test=meta_test_of(run),
        skipped=tuple((printable(file), why) for file, why in support.skipped + query.skipped),
        warnings=(*image_warnings(support, query, classes, request), *size_warnings(support, query, record)),
    )
    return Predictions(report, support, query, labels, finite)


def _part(told: OnProgress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: told(what, done, total)


def _counted(told: OnProgress, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(num: int) -> None:
        nonlocal done
        done += num
        told(what, done, total)

    return advance


def _recipe(run: RunDirectory, request: PredictionRequest) -> Recipe:
    """Return the run's recipe on the device asked for, after checking what needs no image."""
    if request.invert not in INVERT_CHOICES:
        raise DataError("--invert", expected=f"one of {', '.join(INVERT_CHOICES)}", got=repr(request.invert))
    recipe = recipe_elsewhere(run, where="mamlcli adapt", device=request.device)
    if not isinstance(recipe.tasks, ImageTasks | FolderTasks):
        raise MamlError(
            str(run.path),
            expected="a run that was trained on images",
            got=f"tasks.source={recipe.tasks.source}",
            next_step="Run: mamlcli train glyphs-5way-1shot, and use that run",
        )
    return recipe


def stored_record(run: RunDirectory, recipe: Recipe) -> ImageRecord:
    """Return how the run's images became arrays: from its manifest, for runs older than that from its data.

    Raises:
        RunError: neither says it.
    """
    if (noted := noted_images(run)) is not None:
        return noted
    why = "The run was made before mamlcli kept this, or on images that are not square"
    tasks = recipe.tasks
    assert isinstance(tasks, ImageTasks | FolderTasks)
    try:
        record = image_record(load_image_pack(tasks)[0])
    except MamlError as error:
        record, why = None, f"{why}, and its data is not there: {str(error).rstrip('.')}"
    if record is None:
        raise RunError(
            str(run.path / "manifest.json"),
            expected="how images become square arrays (data.images)",
            got="nothing",
            why=why,
            next_step="Train the run again: mamlcli train",
        )
    return record


def _support(request: PredictionRequest, record: ImageRecord, recipe: Recipe, told: OnProgress) -> OwnImages:
    files = find_support(request.support)
    where = f"--support {shown(request.support)}"
    names = dict.fromkeys(name for name in files.class_names if name is not None)
    num_outputs = recipe.tasks.ways  # type: ignore[union-attr]  # an image source, checked before
    if len(names) > num_outputs:
        listed = ", ".join(shown(name) for name in list(names)[:10]) + (", ..." if len(names) > 10 else "")
        raise DataError(
            where,
            expected=f"2 to {num_outputs} class folders, the outputs of the run's head",
            got=f"{len(names)}: {listed}",
            next_step=f"Take some away, or train a run with more: mamlcli train {_recipe_word(recipe)} "
            f"tasks.ways={len(names)}",
        )
    support = read_own_images(
        files, record, invert=request.invert, frame=request.frame, progress=_part(told, "reading support images")
    )
    classes = _classes(support)
    if len(classes) < 2:
        got = f"{len(classes)}" + (f" ({shown(classes[0])})" if classes else "")
        raise DataError(
            where,
            expected=f"2 to {num_outputs} class folders with images",
            got=got,
            why=_first_skipped(support),
            next_step=f"Make one folder for each class: {shown(request.support)}/CLASS/IMAGE.png",
        )
    lost = [name for name in names if name not in classes]
    return replace(support, skipped=[*support.skipped, *((name, "a class without a usable image") for name in lost)])


def _recipe_word(recipe: Recipe) -> str:
    source = recipe.tasks.source
    return "folder tasks.path=DIR" if source == "folder" else f"RECIPE-OF-{source.upper()}"


def _first_skipped(images: OwnImages) -> str | None:
    return f"Skipped: {shown(images.skipped[0][0])}: {images.skipped[0][1]}" if images.skipped else None


def _classes(support: OwnImages) -> list[str]:
    return list(dict.fromkeys(name for name in support.class_names if name is not None))


def _require_query(query: OwnImages, request: PredictionRequest) -> None:
    where = f"--query {shown(request.query)}"
    if not query.paths:
        raise DataError(where, expected="at least one image that can be read", got="none", why=_first_skipped(query))
    if request.is_joint and len(query.paths) > MAX_JOINT_IMAGES:
        raise DataError(
            where,
            expected=f"at most {MAX_JOINT_IMAGES} images with --joint",
            got=str(len(query.paths)),
            why="They are one batch",
            next_step="Leave --joint out",
        )


def _tensor(images: NDArray[np.uint8], experiment: Experiment) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(experiment.device)


def _inputs(images: OwnImages, experiment: Experiment) -> Tensor:
    return as_inputs(_tensor(images.images, experiment), experiment.dtype)


def _checked(probabilities: Tensor, request: PredictionRequest) -> NDArray[np.float64]:
    values = np.asarray(probabilities.double().cpu().numpy())
    if not np.isfinite(values).all():
        next_step = f"Use {'fewer --steps' if request.num_steps else 'a run with a smaller inner.lr'}"
        got = "an inner loop that diverged"
        raise MamlError("mamlcli adapt", expected="finite probabilities", got=got, next_step=next_step)
    return values


def _leave_one_out(classifier: SupportClassifier, x: Tensor, y: Tensor, told: OnProgress) -> LeaveOneOut | None:
    """Classify support images by the others; None where no class has two."""
    indices = list(left_out_indices(y.cpu(), MAX_LEFT_OUT))
    if not indices:
        return None
    probabilities = classifier.leave_one_out(x, y, indices, advance=_counted(told, "leaving one out", len(indices)))
    num_right = int((probabilities.argmax(dim=-1) == y[indices]).sum())
    num_candidates = sum(count for count in Counter(y.tolist()).values() if count > 1)
    return LeaveOneOut(proportion(num_right, len(indices)), num_candidates)
