"""Classify a user's own images with a trained run, which needs its checkpoint and its recipe but not its data."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlcli.build import Experiment, build_without_data, load_image_pack
from mamlcli.classifier import SupportClassifier, as_inputs, left_out_indices
from mamlcli.errors import DataError, MamlError, RunError
from mamlcli.recipe import FolderTasks, ImageTasks, Recipe
from mamlcli.recipe_files import recipe_from_tree, recipe_to_tree
from mamlcli.rundir import RunDirectory
from mamlcli.session import best_weights
from mamlcli.tasks.images import ImageRecord, image_record
from mamlcli.tasks.own_images import OwnImages, find_query, find_support, printable, read_own_images, shown
from mamlcli.tasks.sources import INVERT_CHOICES

# Each image left out is an adaptation of its own.
MAX_LEFT_OUT = 30
# One batch of all query images must fit into memory.
MAX_JOINT_IMAGES = 1000
# Glyphs drawn at 0.4 to 0.9 of the page were recognised half as often as glyphs drawn at the run's size.
_MAX_SIZE_RATIO = 1.25
_Z_95 = 1.959963984540054  # standard normal quantile of 0.975

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PredictionRequest:
    """What to classify by what.

    Attributes:
        support: a folder of class folders.
        query: a folder of images or of class folders, or one image.
        invert: "auto", "yes" or "no": exchange bright and dark; auto decides for support and query by themselves.
        frame: "file" or "ink": as in training, or cut out so that drawings are as large as the run's.
        num_steps: inner steps; None for those of the run's evaluation.
        device: None for the recipe's.
        is_joint: whether batch norm takes the statistics of support and query images together.
    """

    support: Path
    query: Path
    invert: str = "auto"
    frame: str = "file"
    num_steps: int | None = None
    device: str | None = None
    is_joint: bool = False


@dataclass(frozen=True)
class Predictions:
    """What was predicted.

    Attributes:
        report: the machine-readable result; see `predict_run`.
        support, query: the images as the network saw them.
        labels: [num_support], the class of each support image.
        probabilities: [num_query, num_classes].
    """

    report: dict[str, Any]
    support: OwnImages
    query: OwnImages
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def predict_run(run: RunDirectory, request: PredictionRequest, *, on_progress: OnProgress | None = None) -> Predictions:
    """Adapt a run's best weights to a support set and classify query images.

    Args:
        run: trained on images.
        request: what to classify by what.
        on_progress: is called with (what is done, done, in all).

    Returns:
        Predictions; `report` holds run, recipe, weights, inner_steps, num_outputs, num_assignments, batch_norm,
        depends_on_other_queries, frame, preprocessing, support and query (path, num_images, inverted, inversion),
        classes, predictions (image, predicted, true, probabilities), accuracy, leave_one_out, meta_test, skipped,
        warnings.

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
    classifier, weights, experiment = _classifier(run, recipe, record, request)
    classes = _classes(support)
    labels = np.array([classes.index(str(name)) for name in support.class_names], dtype=np.int64)
    support_x, support_y = _inputs(support, experiment), torch.from_numpy(labels).to(experiment.device)
    query_x = _tensor(query.images, experiment)
    probabilities = classifier.classify(
        support_x, support_y, query_x, advance=_counted(told, "classifying", len(query_x))
    )
    found = _checked(probabilities, request)
    left_out = _leave_one_out(classifier, support_x, support_y, told)
    report = {
        "run": str(run.path),
        "recipe": run.name,
        "weights": weights,
        "inner_steps": classifier.objective.inner.num_steps,
        "num_outputs": classifier.num_outputs,
        "num_assignments": min(classifier.num_outputs, classifier.num_assignments),
        "batch_norm": getattr(recipe.model, "norm", "none"),
        "depends_on_other_queries": request.is_joint and classifier.has_batch_statistics and len(query_x) > 1,
        "frame": request.frame,
        "preprocessing": {k: v for k, v in record.preprocessing.to_dict().items() if k != "invert"},
        "support": {
            **_set_report(support),
            "shots": {name: int((labels == i).sum()) for i, name in enumerate(classes)},
        },
        "query": _set_report(query),
        "classes": classes,
        **_rows(query, classes, found),
        "leave_one_out": left_out,
        "meta_test": _meta_test(run),
        "skipped": [{"file": printable(file), "reason": why} for file, why in support.skipped + query.skipped],
        "warnings": _warnings(support, query, classes, request) + _size_warnings(support, query, record),
    }
    return Predictions(report, support, query, labels, found)


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
    tree = recipe_to_tree(run.recipe)
    if request.device is not None:
        tree["execution"]["device"] = request.device
    recipe = recipe_from_tree(tree, where="mamlcli adapt")
    if not isinstance(recipe.tasks, ImageTasks | FolderTasks):
        raise MamlError(
            str(run.path), expected="a run that was trained on images", got=f"tasks.source={recipe.tasks.source}",
            next_step="Run: mamlcli train glyphs-5way-1shot, and use that run",
        )  # fmt: skip
    return recipe


def stored_record(run: RunDirectory, recipe: Recipe) -> ImageRecord:
    """Return how the run's images became arrays: from its manifest, for runs older than that from its data.

    Raises:
        RunError: neither says it.
    """
    stored = run.manifest.get("data", {}).get("images")
    if isinstance(stored, dict):
        with contextlib.suppress(TypeError, ValueError, KeyError):
            return ImageRecord.from_dict(stored)
    why = "The run was made before mamlcli kept this, or on images that are not square"
    tasks = recipe.tasks
    assert isinstance(tasks, ImageTasks | FolderTasks)
    try:
        record = image_record(load_image_pack(tasks)[0])
    except MamlError as error:
        record, why = None, f"{why}, and its data is not there: {str(error).rstrip('.')}"
    if record is None:
        raise RunError(str(run.path / "manifest.json"), expected="how images become square arrays (data.images)",
                       got="nothing", why=why, next_step="Train the run again: mamlcli train")  # fmt: skip
    return record


def _support(request: PredictionRequest, record: ImageRecord, recipe: Recipe, told: OnProgress) -> OwnImages:
    files = find_support(request.support)
    where = f"--support {shown(request.support)}"
    names = dict.fromkeys(name for name in files.class_names if name is not None)
    num_outputs = recipe.tasks.ways  # type: ignore[union-attr]  # an image source, checked before
    if len(names) > num_outputs:
        listed = ", ".join(shown(name) for name in list(names)[:10]) + (", ..." if len(names) > 10 else "")
        raise DataError(
            where, expected=f"2 to {num_outputs} class folders, the outputs of the run's head",
            got=f"{len(names)}: {listed}",
            next_step=f"Take some away, or train a run with more: mamlcli train {_recipe_word(recipe)} "
            f"tasks.ways={len(names)}",
        )  # fmt: skip
    support = read_own_images(
        files, record, invert=request.invert, frame=request.frame, progress=_part(told, "reading support images")
    )
    classes = _classes(support)
    if len(classes) < 2:
        got = f"{len(classes)}" + (f" ({shown(classes[0])})" if classes else "")
        raise DataError(
            where, expected=f"2 to {num_outputs} class folders with images", got=got, why=_first_skipped(support),
            next_step=f"Make one folder for each class: {shown(request.support)}/CLASS/IMAGE.png",
        )  # fmt: skip
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
            where, expected=f"at most {MAX_JOINT_IMAGES} images with --joint", got=str(len(query.paths)),
            why="They are one batch", next_step="Leave --joint out",
        )  # fmt: skip


def _classifier(
    run: RunDirectory, recipe: Recipe, record: ImageRecord, request: PredictionRequest
) -> tuple[SupportClassifier, str, Experiment]:
    size, channels = record.preprocessing.size, record.preprocessing.channels
    num_outputs = recipe.tasks.ways  # type: ignore[union-attr]  # an image source, checked before
    experiment = build_without_data(recipe, input_shape=(channels, size, size), num_outputs=num_outputs)
    meta, weights = best_weights(run, experiment)
    steps = request.num_steps or recipe.evaluation.steps or recipe.inner.steps
    return SupportClassifier(experiment.objective(steps), meta, is_joint=request.is_joint), weights, experiment


def _tensor(images: NDArray[np.uint8], experiment: Experiment) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(experiment.device)


def _inputs(images: OwnImages, experiment: Experiment) -> Tensor:
    return as_inputs(_tensor(images.images, experiment), experiment.dtype)


def _checked(probabilities: Tensor, request: PredictionRequest) -> NDArray[np.float64]:
    found = probabilities.double().cpu().numpy()
    if not np.isfinite(found).all():
        steps = "fewer --steps" if request.num_steps else "a run with a smaller inner.lr"
        raise MamlError("mamlcli adapt", expected="finite probabilities", got="an inner loop that diverged",
                        next_step=f"Use {steps}")  # fmt: skip
    return found


def _set_report(images: OwnImages) -> dict[str, Any]:
    return {
        "path": printable(images.root),
        "num_images": len(images.paths),
        "inverted": images.is_inverted,
        "inversion": images.inversion,
    }


def _rows(query: OwnImages, classes: list[str], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    rows = []
    for path, name, row in zip(query.paths, query.class_names, probabilities, strict=True):
        rows.append({
            "image": printable(path),
            "predicted": classes[int(row.argmax())],
            "true": name if name in classes else None,
            "probabilities": dict(zip(classes, map(float, row), strict=True)),
        })  # fmt: skip
    known = [row for row in rows if row["true"] is not None]
    right = sum(row["predicted"] == row["true"] for row in known)
    return {"predictions": rows, "accuracy": proportion(right, len(known)) if known else None}


def proportion(num_right: int, num_all: int) -> dict[str, Any]:
    """Return a proportion with its 95 % interval over images (Wilson's score interval).

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference. No known deviation.
    """
    p, z2n = num_right / num_all, _Z_95**2 / num_all
    middle, half = p + z2n / 2, _Z_95 * math.sqrt(p * (1 - p) / num_all + z2n / (4 * num_all))
    return {
        "num_right": num_right,
        "num_images": num_all,
        "mean": p,
        "ci95_over_images": [max(0.0, (middle - half) / (1 + z2n)), min(1.0, (middle + half) / (1 + z2n))],
    }


def _leave_one_out(classifier: SupportClassifier, x: Tensor, y: Tensor, told: OnProgress) -> dict[str, Any] | None:
    """Classify support images by the others; None where no class has two."""
    indices = list(left_out_indices(y.cpu(), MAX_LEFT_OUT))
    if not indices:
        return None
    found = classifier.leave_one_out(x, y, indices, advance=_counted(told, "leaving one out", len(indices)))
    right = int((found.argmax(dim=-1) == y[indices]).sum())
    candidates = sum(count for count in Counter(y.tolist()).values() if count > 1)
    return {**proportion(right, len(indices)), "num_candidates": candidates}


def _meta_test(run: RunDirectory) -> dict[str, Any] | None:
    """Return protocol and final accuracy of the run's own evaluation; None where there is none."""
    try:
        report = run.read_report()
    except RunError:
        return None
    accuracy = report.final.accuracy
    return None if accuracy is None else {"protocol": report.protocol.to_json(), "accuracy": accuracy.to_json()}


def _warnings(support: OwnImages, query: OwnImages, classes: list[str], request: PredictionRequest) -> list[str]:
    found = []
    if _is_same(request.support, request.query):
        found.append("the query folder is the support folder: the network has seen every image that it is asked about")
    else:
        seen = {image.tobytes() for image in support.images}
        num = sum(image.tobytes() in seen for image in query.images)
        if num:
            found.append(
                f"{num} of {len(query.images)} query images are support images, too: of these it knows the answer"
            )
    unknown = dict.fromkeys(name for name in query.class_names if name is not None and name not in classes)
    if unknown and len(unknown) < len(set(query.class_names)):
        listed = ", ".join(shown(name) for name in unknown)
        found.append(f"query folders that are no class of the support are predicted, and not scored: {listed}")
    for which, images in (("support", support), ("query", query)):
        if images.odd:
            listed = ", ".join(shown(path) for path in images.odd[:5]) + (", ..." if len(images.odd) > 5 else "")
            found.append(
                f"{len(images.odd)} of {len(images.paths)} {which} images have another ground (bright or dark) than "
                f"most, and were inverted or not like these: {listed}"
            )
    return found


def _size_warnings(support: OwnImages, query: OwnImages, record: ImageRecord) -> list[str]:
    """Warn where drawings fill much less or more of their frame than those of the run: this costs most accuracy."""
    found = []
    for which, images in (("support", support), ("query", query)):
        if record.extent is None or images.extent is None or not math.isfinite(images.extent):
            continue
        if not 1 / _MAX_SIZE_RATIO < images.extent / record.extent < _MAX_SIZE_RATIO:
            found.append(
                f"{which} drawings fill {images.extent:.0%} of their frame, those of the run {record.extent:.0%}: "
                "they are not recognised well; --frame ink cuts them out as large as the run's"
            )
    return found


def _is_same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False
