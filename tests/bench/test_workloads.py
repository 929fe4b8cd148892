"""Whole meta-iterations and evaluations: the tasks that are drawn by hand, and that ours is what a run does."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mamlcli.bench.cases import EVALUATION, ITERATION, problem_of
from mamlcli.bench.implementations import AUTO, OURS, Implementation, timed
from mamlcli.bench.peers import PLAIN_LOOP
from mamlcli.bench.workloads import drawn_by_hand, image_tasks
from tests.helpers.benches import TINY_CASE

CASE = dataclasses.replace(TINY_CASE, kind=ITERATION, shots=1, queries=2, tasks=3)


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr("mamlcli.bench.workloads._NUM_CLASSES", 6)


def test_tasks_drawn_by_hand_have_the_images_of_different_classes_none_twice():
    tasks = dataclasses.replace(image_tasks(problem_of(CASE, device="cpu")), rotations=True)
    drawn = drawn_by_hand(tasks, torch.Generator().manual_seed(1), 3)
    assert len(drawn) == 3
    known = {tuple((image.float() / 255).flatten().tolist()): index for index, image in enumerate(tasks.images)}
    for support_x, support_y, query_x, query_y in drawn:
        assert (support_y.tolist(), query_y.tolist()) == ([0, 1], [0, 0, 1, 1])
        turned = [[torch.rot90(x, turn, (1, 2)) for turn in range(4)] for x in [*support_x, *query_x]]
        keys = [[tuple(image.flatten().tolist()) for image in images] for images in turned]
        rows = [next(known[key] for key in of_image if key in known) for of_image in keys]
        assert len(set(rows)) == 6
        assert [row // 20 for row in rows] == [rows[0] // 20, rows[1] // 20, *2 * [rows[0] // 20], *2 * [rows[1] // 20]]


@pytest.mark.parametrize("name", [AUTO, PLAIN_LOOP])
def test_an_iteration_moves_theta_by_a_step_of_adam_and_draws_anew(name):
    problem = problem_of(CASE, device="cpu")
    iterate = timed(OURS.get(name) or Implementation(name), problem)
    before = {key.removeprefix("model/"): value for key, value in problem.meta.flat().items()}
    lr = problem.experiment.recipe.outer.lr
    moved = []
    for _ in range(2):
        params = {key.removeprefix("model/"): value.detach().clone() for key, value in iterate().items()}
        moved.append(params["head.0.bias"] - before["head.0.bias"])
        before = params
    # Adam's first step is lr in every entry, whatever the gradient; the second is on other tasks.
    assert torch.allclose(moved[0].abs(), torch.full_like(moved[0], lr), rtol=1e-3)
    assert not torch.equal(moved[0], moved[1])


@pytest.mark.parametrize("name", [AUTO, PLAIN_LOOP])
def test_an_evaluation_scores_as_many_tasks_as_asked_at_every_step(name):
    case = dataclasses.replace(CASE, kind=EVALUATION, tasks=45)
    problem = problem_of(case, device="cpu")
    found = timed(OURS.get(name) or Implementation(name), problem)()["scores"]
    assert found.shape == (45, problem.experiment.recipe.inner.steps + 1, 4)
    assert bool(torch.isfinite(found).all())
