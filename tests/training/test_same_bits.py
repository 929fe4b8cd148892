"""Whole runs, however they are computed: the same bits after an interruption, the same numbers on every path.

All comparisons are between runs of this process, so they hold on every processor. Meta-gradients of the paths are
compared in test_execution, seeds together in test_replicas, workers in test_distributed and cli/test_workers; an older
commit is compared with by `make same-bits`.
"""

from __future__ import annotations

import pytest
import torch

from mamlcli.common.errors import Interrupted
from mamlcli.engine.outer_loop import StepRecord
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.planned import Progress
from mamlcli.training.rescoring import adapt_run
from tests.helpers.running import assert_same_results, results, train_tiny

pytestmark = pytest.mark.usefixtures("one_thread")

KEYS = (
    "execution.dtype=float64",
    "outer.tasks=3",
    "outer.iterations=6",
    "outer.checkpoint_every=2",
    "inner.steps=2",
    "validation={every: 2, tasks: 3}",
    "model.width=5",
    "inner.transform=kfo",
)
PATHS = {
    "loop": ("execution.path=loop",),
    "batched": ("execution.path=batched",),
    "explicit": ("execution.path=explicit",),
    "explicit, one task at a time": ("execution.path=explicit", "execution.chunk=1"),
    "loop, constant memory": ("execution.path=loop", "inner.memory=constant"),
    "explicit, constant memory": ("execution.path=explicit", "inner.memory=constant"),
}

# What changes from iteration to iteration, and what is learned beside the weights.
MEANS = (
    "inner.rates=tensor-step",
    "outer.multi_step_loss=4",
    "outer.schedule=cosine",
    "outer.lr_min=1e-4",
    "outer.weight_decay=0.1",
)
EVERY_PATH = pytest.mark.parametrize("path", PATHS)

# Sums of float64 in another order (1e-16 each) in every one of six meta-iterations.
SAME_SUMS = 1e-10


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run on each path."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        path: train_tiny(folder / str(number), "sinusoid", *KEYS, *words).path
        for number, (path, words) in enumerate(PATHS.items())
    }


def stop_at(iteration):
    def look(record):
        if isinstance(record, StepRecord) and record.iteration == iteration:
            raise Interrupted("now")

    return Progress(on_record=look)


@EVERY_PATH
def test_run_cut_and_resumed_has_the_bits_of_an_uncut_one_on_every_path(runs, tmp_path, path):
    with pytest.raises(Interrupted):
        train_tiny(tmp_path / "cut", "sinusoid", *KEYS, *PATHS[path], progress=stop_at(3))
    again = train_tiny(tmp_path / "cut", "sinusoid", *KEYS, *PATHS[path])
    assert again.manifest["resumed_from"] == [3]
    assert_same_results(runs[path], again.path)


@EVERY_PATH
def test_runs_of_all_paths_agree_up_to_rounding(runs, path):
    tensors, metrics, _ = results(runs["loop"])
    others, other_metrics, _ = results(runs[path])
    assert list(others) == list(tensors)
    for name, value in tensors.items():
        assert torch.allclose(others[name], value, rtol=SAME_SUMS, atol=1e-13), name
    losses = [
        [record["outer_loss"] for record in found if "outer_loss" in record] for found in (metrics, other_metrics)
    ]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=SAME_SUMS)


@EVERY_PATH
def test_scores_of_a_run_are_computed_again_to_the_same_bits(runs, path):
    (first, report), (second, _) = (adapt_run(RunDirectory.open(runs[path])) for _ in range(2))
    assert first.scores.tobytes() == second.scores.tobytes()
    _, _, evaluation = results(runs[path])
    assert report.to_json()["curve"] == evaluation["curve"]


@EVERY_PATH
def test_run_with_learned_rates_and_a_multi_step_loss_that_was_cut_has_the_bits_of_an_uncut_one(tmp_path, path):
    whole = train_tiny(tmp_path / "whole", "sinusoid", *KEYS, *MEANS, *PATHS[path])
    for iteration in (3, 5):  # before the weights have gone to the last step, and after
        folder = tmp_path / str(iteration)
        with pytest.raises(Interrupted):
            train_tiny(folder, "sinusoid", *KEYS, *MEANS, *PATHS[path], progress=stop_at(iteration))
        assert_same_results(whole.path, train_tiny(folder, "sinusoid", *KEYS, *MEANS, *PATHS[path]).path)
    assert any(name.endswith("/rate") for name in results(whole.path)[0])
