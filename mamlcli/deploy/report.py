"""This module holds the results of `mamlcli adapt --support --query` as types, and turns them into JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamlcli.common.errors import RunError
from mamlcli.common.statistics import Proportion, Score, proportion
from mamlcli.common.words import printable, shown
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import Protocol
from mamlcli.tasks.images.deep import FULL, bits_in_words
from mamlcli.tasks.images.ink import ImageRecord
from mamlcli.tasks.images.own import OwnImages
from mamlcli.tasks.images.reading import Preprocessing

# Glyphs drawn at 0.4 to 0.9 of the page were recognised half as often as glyphs drawn at the run's size.
_MAX_SIZE_RATIO = 1.25


@dataclass(frozen=True)
class PredictionRequest:
    """Says which images to classify by which, and how.

    Attributes:
        support: a folder of class folders.
        query: a folder of images or of class folders, or one image.
        invert: "auto", "yes" or "no": exchange bright and dark; auto decides for support and query by themselves.
        frame: "file" or "ink": as in training, or cut out so that drawings are as large as the run's.
        num_steps: inner steps; None for those of the run's evaluation.
        device: None for the recipe's.
        is_joint: whether batch norm takes the statistics of support and query images together.
        places: words `tasks.path=PLACE`: where the data of the run are now, for a run of a version that did not note
            how its images became arrays.
    """

    support: Path
    query: Path
    invert: str = "auto"
    frame: str = "file"
    num_steps: int | None = None
    device: str | None = None
    is_joint: bool = False
    places: Sequence[str] = ()


@dataclass(frozen=True)
class LeaveOneOut:
    """Tells how many support images are classified right by the others.

    Attributes:
        accuracy: over the images that were left out.
        num_candidates: images that could have been: those of a class with another image.
    """

    accuracy: Proportion
    num_candidates: int

    def to_json(self) -> dict[str, object]:
        """Return the result as reports have it."""
        return {**self.accuracy.to_json(), "num_candidates": self.num_candidates}


@dataclass(frozen=True)
class MetaTest:
    """Holds the run's own result on meta-test tasks: protocol and final accuracy."""

    protocol: Protocol
    accuracy: Score

    def to_json(self) -> dict[str, object]:
        """Return both as evaluation.json has them."""
        return {"protocol": self.protocol.to_json(), "accuracy": self.accuracy.to_json()}


@dataclass(frozen=True)
class ImageSet:
    """Describes one of a user's folders as it was read.

    Attributes:
        path: the folder, or the one image.
        num_images: that could be read.
        inverted, inversion: whether bright and dark were exchanged, and why in words.
    """

    path: str
    num_images: int
    inverted: bool
    inversion: str

    @classmethod
    def of(cls, images: OwnImages) -> ImageSet:
        """Return the description of images that were read."""
        return cls(printable(images.root), len(images.paths), images.is_inverted, images.inversion)


@dataclass(frozen=True)
class ImagePrediction:
    """Holds what was predicted for one image.

    Attributes:
        image: its path.
        predicted: the most probable class.
        true: the class whose folder it lies in; None where that is unknown.
        probabilities: by class.
    """

    image: str
    predicted: str
    true: str | None
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class PredictionReport:
    """Holds all that is known of a classification of a user's images.

    Attributes:
        run, recipe, weights: the run's path, its recipe's name, and which of its weights in words.
        inner_steps: of the adaptation.
        num_outputs, num_assignments: outputs of the head; assignments of classes to them that are averaged.
        batch_norm: the recipe's `model.norm`.
        depends_on_other_queries: whether a prediction depends on the other query images.
        frame: "file" or "ink".
        preprocessing: how files became arrays; whether they were inverted stands with the sets.
        support, query: the folders.
        shots: support images of each class.
        classes: in the order of the support folder.
        predictions: one for each query image.
        accuracy: over the query images of known class; None without any.
        leave_one_out: None where no class has two images.
        meta_test: None where the run was not scored.
        skipped: (file, reason) of what was not taken.
        warnings: what makes the result doubtful.
    """

    run: str
    recipe: str
    weights: str
    inner_steps: int
    num_outputs: int
    num_assignments: int
    batch_norm: str
    depends_on_other_queries: bool
    frame: str
    preprocessing: Preprocessing
    support: ImageSet
    shots: Mapping[str, int]
    query: ImageSet
    classes: tuple[str, ...]
    predictions: tuple[ImagePrediction, ...]
    accuracy: Proportion | None
    leave_one_out: LeaveOneOut | None
    meta_test: MetaTest | None
    skipped: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return what `mamlcli adapt --support --query --json` prints."""
        preprocessing = {key: value for key, value in asdict(self.preprocessing).items() if key != "invert"}
        fields = {**vars(self), "support": {**vars(self.support), "shots": dict(self.shots)}}
        del fields["shots"]
        return {
            **fields,
            "preprocessing": preprocessing,
            "query": dict(vars(self.query)),
            "classes": list(self.classes),
            "predictions": [dict(vars(row)) for row in self.predictions],
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
            "leave_one_out": None if self.leave_one_out is None else self.leave_one_out.to_json(),
            "meta_test": None if self.meta_test is None else self.meta_test.to_json(),
            "skipped": [{"file": file, "reason": reason} for file, reason in self.skipped],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Predictions:
    """Holds what was predicted, and the images that it was predicted for.

    Attributes:
        report: what is shown and written.
        support, query: the images as the network saw them.
        labels: [num_support] int64, the class of each support image.
        probabilities: [num_query, num_classes] float64.
    """

    report: PredictionReport
    support: OwnImages
    query: OwnImages
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def predicted_images(
    query: OwnImages, classes: list[str], probabilities: NDArray[np.float64]
) -> tuple[ImagePrediction, ...]:
    """Return the prediction of each query image; probabilities are [num_query, num_classes] float64."""
    return tuple(
        ImagePrediction(
            image=printable(path),
            predicted=classes[int(row.argmax())],
            true=name if name in classes else None,
            probabilities=dict(zip(classes, map(float, row), strict=True)),
        )
        for path, name, row in zip(query.paths, query.class_names, probabilities, strict=True)
    )


def accuracy_of(predictions: tuple[ImagePrediction, ...]) -> Proportion | None:
    """Return the proportion of right predictions among images of known class; None without any."""
    known = [row for row in predictions if row.true is not None]
    return proportion(sum(row.predicted == row.true for row in known), len(known)) if known else None


def meta_test_of(run: RunDirectory) -> MetaTest | None:
    """Return protocol and final accuracy of the run's own evaluation; None where there is none."""
    try:
        report = run.read_report()
    except RunError:
        return None
    accuracy = report.final.accuracy
    return None if accuracy is None else MetaTest(report.protocol, accuracy)


def image_warnings(support: OwnImages, query: OwnImages, classes: list[str], request: PredictionRequest) -> list[str]:
    """Return warnings of what makes the result doubtful, or unlike what was asked for."""
    return [
        *_warnings_of_seen(support, query, request),
        *_warnings_of_unknown_classes(query, classes),
        *_warnings_of_ground("support", support),
        *_warnings_of_ground("query", query),
        *_warnings_of_range("support", support),
        *_warnings_of_range("query", query),
    ]


def _warnings_of_range(which: str, images: OwnImages) -> list[str]:
    return [] if images.white == FULL else [f"{which}: {bits_in_words(images.white)}"]


def _warnings_of_seen(support: OwnImages, query: OwnImages, request: PredictionRequest) -> list[str]:
    """Warn of query images that the network has adapted to."""
    if _is_same(request.support, request.query):
        return ["the query folder is the support folder: the network has seen every image that it is asked about"]
    seen = {image.tobytes() for image in support.images}
    num = sum(image.tobytes() in seen for image in query.images)
    if num == 0:
        return []
    return [f"{num} of {len(query.images)} query images are support images, too: of these it knows the answer"]


def _warnings_of_unknown_classes(query: OwnImages, classes: list[str]) -> list[str]:
    """Warn of query folders that are no class, where others are."""
    unknown = dict.fromkeys(name for name in query.class_names if name is not None and name not in classes)
    if not unknown or len(unknown) == len(set(query.class_names)):
        return []
    listed = ", ".join(map(shown, unknown))
    return [f"query folders that are no class of the support are predicted, and not scored: {listed}"]


def _warnings_of_ground(which: str, images: OwnImages) -> list[str]:
    """Warn of drawings on another ground than most of their folder."""
    if not images.odd:
        return []
    listed = ", ".join(map(shown, images.odd[:5])) + (", ..." if len(images.odd) > 5 else "")
    return [
        f"{len(images.odd)} of {len(images.paths)} {which} images have another ground (bright or dark) than most, "
        f"and were inverted or not like these: {listed}"
    ]


def size_warnings(support: OwnImages, query: OwnImages, record: ImageRecord) -> list[str]:
    """Warn where drawings fill much less or more of their frame than the run's do: nothing costs more accuracy."""
    warnings = []
    for which, images in (("support", support), ("query", query)):
        if record.extent is None or images.extent is None or not math.isfinite(images.extent):
            continue
        if not 1 / _MAX_SIZE_RATIO < images.extent / record.extent < _MAX_SIZE_RATIO:
            warnings.append(
                f"{which} drawings fill {images.extent:.0%} of their frame, those of the run {record.extent:.0%}: "
                "they are not recognised well; --frame ink cuts them out as large as the run's"
            )
    return warnings


def _is_same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False
