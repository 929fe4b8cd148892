"""This module classifies a user's images with a trained run: with its checkpoint and recipe, without its data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlcli.common.commands import command
from mamlcli.common.errors import DataError, MamlError, RunError
from mamlcli.common.statistics import proportion
from mamlcli.common.words import printable, shown
from mamlcli.deploy.classifier import Advance, SupportClassifier, as_inputs, left_out_indices, support_classifier
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
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import FolderTasks, ImageTasks
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.suggestions import recipe_words
from mamlcli.tasks.images.ink import ImageRecord, image_record
from mamlcli.tasks.images.own import OwnFiles, OwnImages, find_query, find_support, read_own_images
from mamlcli.tasks.images.sources import INVERT_CHOICES
from mamlcli.training.data import load_image_pack
from mamlcli.training.experiment import Experiment
from mamlcli.training.trained import TrainedRun, noted_images, num_inner_steps, open_trained, recipe_elsewhere

# Each image left out is an adaptation of its own.
MAX_LEFT_OUT = 30

# One batch of all query images must fit into memory.
MAX_JOINT_IMAGES = 1000

# Is called with (what is done, how much of it is done, how much there is).
OnProgress = Callable[[str, int, int], None]


def predict_run(run: RunDirectory, request: PredictionRequest, *, on_progress: OnProgress | None = None) -> Predictions:
    """Adapt a run's best weights to a support set and classify query images.

    Args:
        run: trained on images.
        request: what to classify by what.
        on_progress: is called as the work goes on.

    Raises:
        MamlError: the run was not trained on images, or an option does not suit; DataError: too few or too many
            classes, no query image; RunError: the run has no checkpoint.
    """
    report_progress = on_progress or (lambda what, done, total: None)
    recipe, tasks = _recipe(run, request)
    record = stored_record(run, tasks)
    trained = open_trained(run, recipe)
    experiment = trained.experiment
    files = find_support(request.support)
    _require_outputs(files, run, experiment, request)
    support = _support(files, request, record, experiment, report_progress)
    query = _query(request, record, support.white, report_progress)
    classes = _classes(support)
    classifier = _classifier(trained, request, len(classes))
    labels = np.array([classes.index(str(name)) for name in support.class_names], dtype=np.int64)
    support_x, support_y = _inputs(support, experiment), torch.from_numpy(labels).to(experiment.device)
    query_x = _tensor(query.images, experiment)
    advance = _counted(report_progress, "classifying", len(query_x))
    probabilities = _finite(classifier.classify(support_x, support_y, query_x, advance=advance), request)
    images = predicted_images(query, classes, probabilities)
    report = PredictionReport(
        run=run.label,
        recipe=run.name,
        weights=trained.weights,
        inner_steps=classifier.objective.inner.num_inner_steps,
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
        leave_one_out=_leave_one_out(classifier, support_x, support_y, report_progress),
        meta_test=meta_test_of(run),
        skipped=tuple((printable(file), why) for file, why in support.skipped + query.skipped),
        warnings=(*image_warnings(support, query, classes, request), *size_warnings(support, query, record)),
    )
    return Predictions(report, support, query, labels, probabilities)


def _classifier(trained: TrainedRun, request: PredictionRequest, num_classes: int) -> SupportClassifier:
    return support_classifier(
        trained.experiment,
        trained.meta,
        num_classes,
        num_steps=num_inner_steps(trained.recipe, request.num_steps),
        is_joint=request.is_joint,
        where=f"--support {shown(request.support)}",
    )


def _part(report_progress: OnProgress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: report_progress(what, done, total)


def _counted(report_progress: OnProgress, what: str, total: int) -> Advance:
    """Return a function that adds up what is done and reports the sum."""
    done = 0

    def advance(num: int) -> None:
        nonlocal done
        done += num
        report_progress(what, done, total)

    return advance


def _recipe(run: RunDirectory, request: PredictionRequest) -> tuple[Recipe, ImageTasks | FolderTasks]:
    """Return the run's recipe on the device asked for, and its tasks.

    Raises:
        DataError: `invert` is no choice.
        MamlError: the run was not trained on images.
    """
    if request.invert not in INVERT_CHOICES:
        raise DataError("--invert", expected=f"one of {', '.join(INVERT_CHOICES)}", got=repr(request.invert))
    recipe = recipe_elsewhere(run, where="mamlcli adapt", device=request.device, changes=request.places)
    if not isinstance(recipe.tasks, ImageTasks | FolderTasks):
        tensors = "give tensors: mamlcli.predict(run, (x, y), query)" if recipe.is_classification else None
        raise MamlError(
            run.label,
            expected="a run that was trained on images of a pack or a folder",
            got=f"tasks.source={recipe.tasks.source}",
            next_step=f"Use such a run, as this makes one: {command('train', 'glyphs-5way-1shot')}"
            + (f"; or from Python {tensors}" if tensors else ""),
        )
    return recipe, recipe.tasks


def stored_record(run: RunDirectory, tasks: ImageTasks | FolderTasks) -> ImageRecord:
    """Return how the run's images became arrays, from its manifest; where an old one does not say it, from the data.

    Raises:
        RunError: neither says it.
    """
    if (noted := noted_images(run)) is not None:
        return noted
    why = "The run was made before mamlcli kept this, or on images that are not square"
    try:
        record = image_record(load_image_pack(tasks)[0])
    except MamlError as error:
        record, why = None, f"{why}, and its data is not there: {str(error).rstrip('.')}"
    if record is None:
        raise RunError(
            f"{run.label}/manifest.json",
            expected="how images become square arrays (data.images)",
            got="nothing",
            why=why,
            next_step="Train the run again: mamlcli train",
        )
    return record


def _support(
    files: OwnFiles, request: PredictionRequest, record: ImageRecord, experiment: Experiment, on_progress: OnProgress
) -> OwnImages:
    """Read the support set.

    Raises:
        DataError: it has fewer than two classes.
    """
    progress = _part(on_progress, "reading support images")
    support = read_own_images(files, record, invert=request.invert, frame=request.frame, progress=progress)
    classes = _classes(support)
    if len(classes) < 2:
        raise DataError(
            f"--support {shown(request.support)}",
            expected=f"{_numbers_of_classes(experiment)} class folders with images",
            got=f"{len(classes)}" + (f" ({shown(classes[0])})" if classes else ""),
            why=_first_skipped(support),
            next_step=f"Make one folder for each class: {shown(request.support)}/CLASS/IMAGE.png",
        )
    empty = [(name, "a class without a usable image") for name in _classes(files) if name not in classes]
    return replace(support, skipped=[*support.skipped, *empty])


def _require_outputs(files: OwnFiles, run: RunDirectory, experiment: Experiment, request: PredictionRequest) -> None:
    """Refuse more classes than the meta-parameters can have."""
    names = _classes(files)
    reason, ways = experiment.ways_of_meta, experiment.network.num_outputs
    if len(names) <= ways or reason is None:
        return
    listed = ", ".join(map(shown, names[:10])) + (", ..." if len(names) > 10 else "")
    words = recipe_words(run.name, run.recipe, run.recipe_path)
    raise DataError(
        f"--support {shown(request.support)}",
        expected=f"{_numbers_of_classes(experiment)} class folders, the outputs of the run's head",
        got=f"{len(names)}: {listed}",
        why=reason,
        next_step=f"Take some away, or train a run with more: {command('train', *words, f'tasks.ways={len(names)}')}",
    )


def _numbers_of_classes(experiment: Experiment) -> str:
    """Return how many classes a support set may have, in words."""
    return "2 or more" if experiment.ways_of_meta is None else f"2 to {experiment.network.num_outputs}"


def _first_skipped(images: OwnImages) -> str | None:
    return f"Skipped: {shown(images.skipped[0][0])}: {images.skipped[0][1]}" if images.skipped else None


def _classes(support: OwnFiles | OwnImages) -> list[str]:
    return list(dict.fromkeys(name for name in support.class_names if name is not None))


def _query(request: PredictionRequest, record: ImageRecord, white: int, report_progress: OnProgress) -> OwnImages:
    """Read the query images.

    Raises:
        DataError: there is none, or there are too many for one batch.
    """
    where, progress = f"--query {shown(request.query)}", _part(report_progress, "reading query images")
    files = find_query(request.query)
    options = {"invert": request.invert, "frame": request.frame}
    query = read_own_images(files, record, **options, white=white, progress=progress)
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
    return query


def _tensor(images: NDArray[np.uint8], experiment: Experiment) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(experiment.device)


def _inputs(images: OwnImages, experiment: Experiment) -> Tensor:
    return as_inputs(_tensor(images.images, experiment), experiment.dtype)


def _finite(probabilities: Tensor, request: PredictionRequest) -> NDArray[np.float64]:
    """Return probabilities as an array.

    Raises:
        MamlError: some are not finite.
    """
    values = np.asarray(probabilities.cpu().double().numpy())
    if not np.isfinite(values).all():
        next_step = f"Use {'fewer --steps' if request.num_steps else 'a run with a smaller inner.lr'}"
        got = "an inner loop that diverged"
        raise MamlError("mamlcli adapt", expected="finite probabilities", got=got, next_step=next_step)
    return values


def _leave_one_out(
    classifier: SupportClassifier, x: Tensor, y: Tensor, report_progress: OnProgress
) -> LeaveOneOut | None:
    """Classify support images by the others; return None where no class has two."""
    indices = list(left_out_indices(y.cpu(), MAX_LEFT_OUT))
    if not indices:
        return None
    advance = _counted(report_progress, "leaving one out", len(indices))
    probabilities = classifier.leave_one_out(x, y, indices, advance=advance)
    num_right = int((probabilities.argmax(dim=-1) == y[indices]).sum())
    num_candidates = sum(count for count in Counter(y.tolist()).values() if count > 1)
    return LeaveOneOut(proportion(num_right, len(indices)), num_candidates)
