"""Few-shot tasks of a person's own tensors and data sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mamlcli.common.errors import DataError
from mamlcli.tasks.episodes import task_generator
from mamlcli.tasks.few_shot_data import FewShotData, few_shot_tasks
from mamlcli.tasks.images.class_splits import Need

LABELS = torch.arange(10).repeat_interleave(4)
X = torch.arange(40.0)[:, None] + torch.tensor([0.0, 0.5, 0.25])


class Photographs:
    """A data set as torchvision's: PIL images and labels, with names of classes."""

    classes = ("cat", "dog")

    def __init__(self, size: tuple[int, int] = (6, 5)) -> None:
        self.size = size

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[object, object]:
        return Image.fromarray(np.full((*self.size, 3), index, np.uint8)), index // 4


def tasks_of(data: FewShotData, split: str, **sizes: int) -> Callable[[int], Tensor]:
    names = data.classes_of_splits({name: Need(2, 3) for name in ("train", "validation", "test")})[split]
    given = {"ways": 2, "shots": 1, "queries": 2, **sizes}
    made = data.tasks(split, names, data.inputs, **given, dtype=torch.float64)
    return lambda index: made.sample([task_generator(0, split, 0, index)]).support_x


def test_tasks_are_of_the_classes_of_their_split() -> None:
    data = few_shot_tasks(X, LABELS, splits={"train": range(6), "validation": [6, 7], "test": [8, 9]})
    sample = tasks_of(data, "test")
    for index in range(5):
        classes = {int(value) // 4 for value in sample(index)[0, :, 0]}
        assert classes == {8, 9}


def test_inputs_of_floats_are_not_scaled_and_images_of_bytes_are() -> None:
    data = few_shot_tasks(X, LABELS, splits={"train": [3, 4]})
    names = data.classes_of_splits({})["train"]
    one = data.tasks("train", names, data.inputs, ways=2, shots=1, queries=1, dtype=torch.float32)
    x = one.sample([task_generator(0, "train", 0, 0)]).support_x
    assert all((x[0, row] == X).all(dim=1).any() for row in range(2))
    images = few_shot_tasks((X[:, :, None, None]).to(torch.uint8), LABELS, splits={"train": [8, 9]})
    byte = images.tasks("train", ("8", "9"), images.inputs, ways=2, shots=1, queries=1, dtype=torch.float32)
    assert float(byte.sample([task_generator(0, "train", 0, 0)]).support_x.max()) <= 40 / 255


def test_drawn_splits_share_no_class_and_each_has_what_it_needs() -> None:
    data = few_shot_tasks(X, LABELS, split_seed=4)
    needs = {"train": Need(4, 3), "validation": Need(3, 3), "test": Need(3, 3)}
    splits = data.classes_of_splits(needs)
    assert {split: len(names) for split, names in splits.items()} == {"train": 4, "validation": 3, "test": 3}
    assert len({name for names in splits.values() for name in names}) == 10
    assert data.classes_of_splits(needs) == splits
    assert few_shot_tasks(X, LABELS, split_seed=5).classes_of_splits(needs) != splits


def test_data_set_of_images_becomes_tensors_with_its_names() -> None:
    data = few_shot_tasks(Photographs(), splits={"train": ["cat", "dog"]})
    assert (data.inputs.dtype, tuple(data.inputs.shape)) == (torch.uint8, (8, 3, 6, 5))
    assert (data.class_names, data.labels.tolist()) == (("cat", "dog"), [0] * 4 + [1] * 4)
    assert data.inputs[5].unique().tolist() == [5]


def test_digest_tells_other_data_labels_and_splits() -> None:
    digests = {
        few_shot_tasks(X, LABELS).digest,
        few_shot_tasks(X + 1, LABELS).digest,
        few_shot_tasks(X, LABELS.flip(0)).digest,
        few_shot_tasks(X, LABELS, split_seed=1).digest,
    }
    assert len(digests) == 4
    assert few_shot_tasks(X.clone(), LABELS.tolist()).digest in digests


def _wrong_sizes() -> object:
    class Mixed(Photographs):
        def __getitem__(self, index: int) -> tuple[object, object]:
            return torch.zeros(3 + index % 2), 0

    return Mixed()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: few_shot_tasks(X.long(), LABELS), r"float, or uint8 for images, got torch.int64"),
        (lambda: few_shot_tasks(X, LABELS.float()), r"labels that are integers, got torch.float32"),
        (lambda: few_shot_tasks(X, LABELS[:5]), r"labels \[40\], one for each input, got \[5\]"),
        (lambda: few_shot_tasks(torch.where(X == 7, torch.nan, X), LABELS), r"finite inputs, got 1 .*first at 7"),
        (lambda: few_shot_tasks(X), r"tensors with labels="),
        (lambda: few_shot_tasks(_wrong_sizes()), r"inputs as the first, torch.float32 \[3\], got .*\[4\] at 1"),
        (lambda: few_shot_tasks(X, LABELS, splits={"train": [0, 1], "test": [1]}), r"got 1 in train and test"),
        (lambda: few_shot_tasks(X, LABELS, splits={"train": [77]}), r"classes that are there.*got 77"),
        (lambda: few_shot_tasks(X, LABELS, splits={"training": [1]}), r"keys train, validation, test, got 'training'"),
        (lambda: few_shot_tasks(X, LABELS, class_names=["a", "b"]), r"labels from 0 to 1, which have names"),
        (lambda: few_shot_tasks([(1, "a")]), r"labels that are integers, got 'a' at 0"),
        (lambda: few_shot_tasks(iter(())), r"a map-style data set with a length"),
    ],
)
def test_examples_that_make_no_tasks_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        make()


def test_split_with_too_few_large_classes_says_what_there_is() -> None:
    data = few_shot_tasks(X, LABELS, splits={"train": range(6), "test": [8]})
    with pytest.raises(DataError, match=r"tasks.ways \(test split\): expected 2 classes .*got 1 of 1 classes"):
        tasks_of(data, "test")
    with pytest.raises(DataError, match=r"expected 2 classes with 6 examples each"):
        tasks_of(data, "train", queries=5)
