"""Any object with a method sample as a task distribution; every episode is checked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mamlcli.common.errors import DataError
from mamlcli.tasks.episodes import Episode, ReferenceScores, task_generator
from mamlcli.tasks.given import GivenDistribution, sizes_of

Four = tuple[Tensor, Tensor, Tensor, Tensor]


class Clusters:
    """Three classes of points in the plane."""

    def sample(self, generators: Sequence[torch.Generator]) -> Four:
        x = torch.stack([torch.randn(9, 2, generator=generator) for generator in generators])
        y = torch.arange(3).repeat(3).expand(len(generators), -1)
        return x[:, :3], y[:, :3], x[:, 3:], y[:, 3:]


class Slopes:
    """Lines with two numbers as a target."""

    def sample(self, generators: Sequence[torch.Generator]) -> Episode:
        x = torch.stack([torch.rand(8, 1, generator=generator) for generator in generators]).double()
        y = torch.cat([x, 2 * x], dim=2)
        return Episode(x[:, :3], y[:, :3], x[:, 3:], y[:, 3:], truth={})


class Later(Clusters):
    """Returns other shapes from the second call on."""

    num_calls = 0

    def sample(self, generators: Sequence[torch.Generator]) -> Four:
        self.num_calls += 1
        parts = super().sample(generators)
        return parts if self.num_calls == 1 else (parts[0][:, :2], *parts[1:])


def changed(index: int, value: object) -> object:
    class Changed(Clusters):
        def sample(self, generators: Sequence[torch.Generator]) -> Four:
            parts = list(super().sample(generators))
            parts[index] = value(parts[index])  # type: ignore[operator]
            return tuple(parts)  # type: ignore[return-value]

    return Changed()


def distribution(given: object) -> GivenDistribution:
    return GivenDistribution(given, sizes_of(given), torch.float64, torch.device("cpu"))


def test_sizes_are_those_of_the_tasks() -> None:
    sizes = sizes_of(Clusters())
    assert (sizes.input_shape, sizes.num_support, sizes.num_query) == ((2,), 3, 6)
    assert (sizes.num_outputs, sizes.is_classification) == (3, True)
    assert (sizes_of(Slopes()).num_outputs, sizes_of(Slopes()).is_classification) == (2, False)


def test_episode_is_in_the_precision_of_the_run_with_labels_of_int64() -> None:
    made = distribution(changed(1, lambda y: y.to(torch.int32)))
    episode = made.sample([task_generator(0, "train", 0, 0)])
    assert (episode.support_x.dtype, episode.support_y.dtype) == (torch.float64, torch.int64)
    assert (made.chance_accuracy, distribution(Slopes()).chance_accuracy) == (pytest.approx(1 / 3), None)


def test_references_are_those_of_the_object_or_none() -> None:
    class Known(Clusters):
        def references(self, episode: Episode) -> dict[str, ReferenceScores]:
            return {"mine": ReferenceScores(None, torch.ones(episode.num_tasks).double())}

    episode = distribution(Clusters()).sample([task_generator(0, "train", 0, 0)])
    assert distribution(Clusters()).references(episode) == {}
    assert list(distribution(Known()).references(episode)) == ["mine"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (object(), r"tasks: expected an object with sample\(generators\)"),
        (changed(0, lambda x: x[:-1]), r"support_x\): expected \[8, 3, 2\], got \[7, 3, 2\]"),
        (changed(2, lambda x: x / 0), r"query_x\): expected finite numbers"),
        (changed(3, lambda y: y.double()), r"query_y\): expected int64 class indices, got torch.float64"),
        (changed(3, lambda y: y - 1), r"query_y\): expected classes from 0 to 2, got -1 to 1"),
        (changed(0, lambda x: x.long()), r"support_x\): expected float, got torch.int64"),
        (changed(0, lambda x: x.numpy()), r"four tensors"),
    ],
)
def test_object_whose_tasks_cannot_be_is_refused(given: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        sizes_of(given)


def test_object_that_says_another_number_of_classes_than_it_draws_is_refused() -> None:
    class Says(Clusters):
        num_outputs = 2

    with pytest.raises(DataError, match=r"expected classes from 0 to 1, got 0 to 2"):
        sizes_of(Says())


def test_tasks_of_other_shapes_than_the_first_ones_are_refused_when_they_are_drawn() -> None:
    made = distribution(Later())
    with pytest.raises(DataError, match=r"tasks.sample \(support_x\): expected \[1, 3, 2\], got \[1, 2, 2\]"):
        made.sample([task_generator(0, "train", 0, 0)])
