"""Draw N-way K-shot tasks from a pack: its images stay uint8 on the device, episodes are draws of indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mamlcli.common.errors import DataError
from mamlcli.tasks.draws import in_float64
from mamlcli.tasks.episodes import Episode, ReferenceScores
from mamlcli.tasks.images.augmentation import augmented, draw_augmentations
from mamlcli.tasks.images.packs import Pack, select_classes

NEAREST_NEIGHBOUR = "nearest neighbour on pixels"

# The same where inputs are no images, but vectors, say.
NEAREST_INPUT = "nearest neighbour on inputs"

# The recipe keys that messages name, unless others set the sizes of a task.
TASK_KEYS = {name: f"tasks.{name}" for name in ("ways", "shots", "queries")}


@dataclass(frozen=True)
class FewShotTasks:
    """Few-shot tasks have `ways` classes, each with `shots` support and `queries` query images, none in both.

    Attributes:
        images: [num_images, channels, height, width] uint8, on the device where episodes are wanted; shared by
            all splits. Or float inputs of any shape, which are not scaled.
        class_images: for each class of the split, the indices of its images, int64 on the CPU.
        ways: classes of a task; their labels are 0 ... ways - 1 in the order drawn.
        shots: support images of each class.
        queries: query images of each class.
        rotations: whether each class turned by 0, 90, 180 and 270 degrees counts as four classes. No task has a drawing
            twice, turned: see `_without_repeats`.
        dtype: of the images of an episode, scaled from 0...255 to [0, 1].
        augment: what is done to each image at random, of "flip", "crop" and "colour"; which classes and images a task
            has does not depend on it.

    Source: Vinyals et al. 2016, arXiv 1606.04080, for N-way K-shot tasks; Santoro et al. 2016, arXiv 1605.06065,
    for rotations as classes. Differs from the release: rotations are a key; inputs are in [0, 1] for every source; no
    drawing is in a task twice, turned, where there are classes or drawings enough.
    """

    images: Tensor
    class_images: tuple[Tensor, ...]
    ways: int
    shots: int
    queries: int
    rotations: bool = False
    dtype: torch.dtype = torch.float32
    augment: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape[1:])

    @property
    def num_outputs(self) -> int:
        return self.ways

    @property
    def is_classification(self) -> bool:
        return True

    @property
    def chance_accuracy(self) -> float | None:
        return 1.0 / self.ways

    def sample(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw one task per generator.

        Returns:
            support_x [num_tasks, ways * shots, channels, height, width], class after class; query_x likewise.
        """
        draws = [self._draw(generator) for generator in generators]
        device = self.images.device
        indices, turns, numbers = (torch.stack(parts) for parts in zip(*draws, strict=True))
        indices, turns = (parts.to(device, non_blocking=True) for parts in (indices, turns))
        x = self.images[indices]  # [num_tasks, ways, shots + queries, channels, height, width]
        if self.rotations:
            x = self._turned(x, turns)
        if self.augment:
            place = "cpu" if device.type == "mps" else device  # the numbers are float64, which mps has not
            x = augmented(x.to(place), numbers.to(place, non_blocking=True), self.augment, self.dtype).to(device)
        else:
            x = x.to(self.dtype) / 255 if x.dtype == torch.uint8 else x.to(self.dtype)
        return Episode(
            support_x=x[:, :, : self.shots].flatten(1, 2),
            support_y=self._labels(len(generators), self.shots),
            query_x=x[:, :, self.shots :].flatten(1, 2),
            query_y=self._labels(len(generators), self.queries),
            truth={},
        )

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return the image indices, the quarter turns of classes and the draws of augmentations of one task.

        Shapes: [ways, shots + queries], [ways] and [ways, shots + queries, 7]; the last is empty without augmentation.
        """
        turns_of_a_class = 4 if self.rotations else 1
        num_classes = len(self.class_images) * turns_of_a_class
        chosen = torch.randperm(num_classes, generator=generator)[: self.ways]
        num = self.shots + self.queries
        labels = (chosen // turns_of_a_class).tolist()
        rows = [_some(self.class_images[label], num, generator) for label in labels]
        if self.rotations:
            rows = self._without_repeats(labels, rows, generator)
        # Augmentations come last: with them a task has the classes and images that it has without.
        numbers = draw_augmentations(self.ways * num if self.augment else 0, generator)
        return torch.stack(rows), chosen % turns_of_a_class, numbers.view(self.ways, -1, numbers.shape[1])

    def _without_repeats(self, labels: list[int], rows: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Return the image indices with those classes drawn anew that repeat a drawing of the same character, turned.

        Two turns of one character are two classes, but a drawing in the support set of one and the query set of the
        other gives the answer away. Such a class takes other drawings of its character; where they are too few, another
        character, turned as it was; where no other is left, it stays. All other tasks are as they are without this.
        """
        labels, rows = list(labels), list(rows)
        for place, label in enumerate(labels):
            taken = [row for other, row in zip(labels[:place], rows, strict=False) if other == label]
            if not taken or not torch.isin(rows[place], torch.cat(taken)).any():
                continue
            num, members = len(rows[place]), self.class_images[label]
            free = members[~torch.isin(members, torch.cat(taken))]
            others = [other for other in range(len(self.class_images)) if other not in labels]
            if len(free) < num and others:
                labels[place] = others[int(torch.randint(len(others), (), generator=generator))]
                free = self.class_images[labels[place]]
            if len(free) >= num:
                rows[place] = _some(free, num, generator)
        return rows

    def _turned(self, x: Tensor, turns: Tensor) -> Tensor:
        """Turn the images of each class by its quarter turns, as one gather (no loop, no synchronisation)."""
        side = x.shape[-1]
        places = torch.arange(side * side, device=x.device).reshape(side, side)
        table = torch.stack([torch.rot90(places, k).flatten() for k in range(4)])
        pixels = torch.take_along_dim(x.flatten(-2), table[turns][:, :, None, None, :], dim=-1)
        return pixels.reshape(x.shape)

    def _labels(self, num_tasks: int, repeats: int) -> Tensor:
        labels = torch.arange(self.ways, device=self.images.device).repeat_interleave(repeats)
        return labels.expand(num_tasks, -1)

    def references(self, episode: Episode) -> dict[str, ReferenceScores]:
        """Score the baseline that learns nothing: the class of the support image nearest in L2, on pixels as a rule."""
        distance = torch.cdist(episode.query_x.flatten(2), episode.support_x.flatten(2))
        nearest = distance.argmin(dim=-1)
        predicted = torch.gather(episode.support_y, 1, nearest)
        accuracy = in_float64(predicted == episode.query_y).mean(dim=1).cpu()
        name = NEAREST_NEIGHBOUR if len(self.input_shape) == 3 else NEAREST_INPUT
        return {name: ReferenceScores(loss=None, accuracy=accuracy)}


def _some(members: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Draw `num` of the members, none twice."""
    return members[torch.randperm(len(members), generator=generator)[:num]]


def fewshot_tasks(
    pack: Pack,
    images: Tensor,
    class_names: Sequence[str],
    *,
    where: str,
    ways: int,
    shots: int,
    queries: int,
    rotations: bool = False,
    dtype: torch.dtype = torch.float32,
    keys: Mapping[str, str] = TASK_KEYS,
    augment: Sequence[str] = (),
) -> FewShotTasks:
    """Return the tasks of one split of a pack, after checking that the pack has enough for them.

    Args:
        pack: the image set.
        images: its images on the device, as `device_images` gives them.
        class_names: the classes of the split.
        where: how messages name the split, as in "omniglot.npz, test split".
        ways, shots, queries, rotations, dtype, augment: as in `FewShotTasks`.
        keys: the recipe keys that ways, shots and queries come from, for messages.

    Raises:
        DataError: classes that the pack lacks (named), fewer classes than ways, a class with fewer than
            shots + queries images, or grey images that should be augmented.
    """
    labels = select_classes(pack, class_names, where=where)
    num_classes = len(labels) * (4 if rotations else 1)
    if num_classes < ways:
        raise _too_few_classes(num_classes, ways, where=where, key=keys["ways"])
    counts = pack.class_counts()
    smallest = min(labels, key=lambda label: int(counts[label]))
    if counts[smallest] < shots + queries:
        raise DataError(
            f"{keys['shots']} + {keys['queries']} ({where})",
            expected=f"at most {counts[smallest]}, the images of class {pack.class_names[smallest]!r}",
            got=f"{shots} + {queries}",
            next_step=f"Lower {keys['shots']} or {keys['queries']}",
        )
    _check_images(pack, where, rotations=rotations, augment=augment)
    members = tuple(torch.from_numpy((pack.labels == label).nonzero()[0]) for label in labels)
    return FewShotTasks(images, members, ways, shots, queries, rotations, dtype, tuple(augment))


def _too_few_classes(num_classes: int, ways: int, *, where: str, key: str) -> DataError:
    """Return the error that a split has fewer classes than a task; a task has two or more."""
    if num_classes < 2:
        expected, got, next_step = f"{ways} classes", str(num_classes), "Use another split"
    else:
        expected, got = f"at most {num_classes}, the classes there are", str(ways)
        next_step = f"Set {key}={num_classes} or use another split"
    return DataError(f"{key} ({where})", expected=expected, got=got, next_step=next_step)


def _check_images(pack: Pack, where: str, *, rotations: bool, augment: Sequence[str]) -> None:
    """Raise a DataError if images that are not square should be turned, or grey ones augmented."""
    if rotations and pack.images.shape[1] != pack.images.shape[2]:
        raise DataError(
            f"tasks.rotations ({where})",
            expected="square images",
            got=f"{pack.images.shape[1:3]}",
            next_step="Set tasks.rotations=false",
        )
    if augment and pack.images.shape[3] != 3:
        raise DataError(
            f"tasks.augment ({where})",
            expected="nothing for grey images",
            got=", ".join(augment),
            why="They have no colour, and a character that is mirrored or cut may be another one",
            next_step="Set tasks.augment=[]",
        )


def device_images(pack: Pack, device: torch.device) -> Tensor:
    """Return the pack's images as [num_images, channels, height, width] uint8 on the device."""
    return torch.from_numpy(pack.images).permute(0, 3, 1, 2).contiguous().to(device)
