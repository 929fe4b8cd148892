"""What a run tells its caller while it goes on."""

from __future__ import annotations

import pytest

from mamlcli.training.planned import Progress
from tests.helpers.running import train_tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def recipe_of_run(experiment):
    # A run does not keep the number that its recipe should reproduce.
    return experiment.recipe.model_copy(update={"reference": None})


def test_caller_is_told_of_the_start_every_record_and_the_evaluation_in_their_order(tmp_path):
    told = []
    progress = Progress(
        on_start=lambda experiment, run, iteration: told.append((run.recipe == recipe_of_run(experiment), iteration)),
        on_record=lambda record: told.append(record.iteration),
        on_evaluation=lambda num_tasks: told.append(f"{num_tasks} tasks"),
    )
    train_tiny(tmp_path / "run", "logistic", "validation={every: 2, tasks: 3}", progress=progress)
    assert told == [(True, 0), 1, 2, 2, "3 tasks"]
