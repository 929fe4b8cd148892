"""Episodes are batches of tasks, and the randomness of a task is counted by four values."""

from __future__ import annotations

import itertools

import pytest
import torch

from mamlcli.tasks.episodes import Episode, sample_tasks, task_generator


class NumberedTasks:
    """Tasks of one support and one query point, each the first draw of the task's generator."""

    input_shape = (1,)
    num_outputs = 1
    is_classification = False
    chance_accuracy = None

    def sample(self, generators):
        first = torch.stack([torch.rand(1, 1, generator=generator) for generator in generators])
        return Episode(first, first, first, first, truth={})

    def references(self, episode):
        return {}


def episode_of(num_tasks):
    parts = (torch.arange(num_tasks * size).reshape(num_tasks, size) for size in (2, 3, 4, 5))
    return Episode(*parts, truth={"weights": torch.arange(num_tasks)})


def first_draw(*key):
    return torch.rand(1, generator=task_generator(*key)).item()


def test_part_of_a_batch_has_its_tasks_and_their_truth():
    episode = episode_of(4)
    part = episode.tasks(1, 3)
    assert part.num_tasks == 2
    for values, expected in zip(part.data(), episode.data(), strict=True):
        assert torch.equal(values, expected[1:3])
    assert part.truth["weights"].tolist() == [1, 2]


def test_part_of_a_batch_is_a_view_and_not_a_copy():
    episode = episode_of(4)
    assert episode.tasks(2, 4).query_x.data_ptr() == episode.query_x[2].data_ptr()


def test_learner_sees_support_before_query_and_no_truth():
    episode = episode_of(2)
    assert [part.shape[1] for part in episode.data()] == [2, 3, 4, 5]


def test_same_four_values_give_the_same_task():
    assert first_draw(7, "train", 3, 1) == first_draw(7, "train", 3, 1)


def test_each_of_the_four_values_gives_another_task():
    keys = itertools.product((0, 1), ("train", "test"), (0, 1), (0, 1))
    assert len({first_draw(*key) for key in keys}) == 16


def test_task_never_changes():
    # Golden, what this call gave when runs were first kept: their tasks must be drawn again when they resume.
    assert task_generator(0, "train", 0, 0).initial_seed() == 2212983763512950223


@pytest.mark.parametrize("indices", [[0, 1, 2], [2, 0], [5]])
def test_tasks_are_drawn_in_the_order_of_their_indices(indices):
    episode = sample_tasks(NumberedTasks(), seed=4, split="validation", iteration=9, indices=indices)
    expected = [first_draw(4, "validation", 9, index) for index in indices]
    assert episode.support_x.flatten().tolist() == expected
