"""Metrics with meta-iterations missing or doubled: noticed when the run goes on, noted and said."""

from __future__ import annotations

import os

import pytest

from mamlcli.common.errors import Interrupted
from mamlcli.engine.outer_loop import StepRecord
from mamlcli.runs.manifest import Manifest
from mamlcli.training.holes import holes_in, holes_words
from mamlcli.training.planned import Progress
from tests.helpers.running import assert_same_results, train_tiny

WORDS = ("outer.iterations=8", "outer.checkpoint_every=2")


def steps(*iterations):
    return [{"kind": "step", "iteration": iteration} for iteration in iterations]


@pytest.mark.parametrize(
    ("iterations", "missing", "doubled"),
    [
        ((1, 2, 3, 4), [], []),
        ((1, 4), [[2, 3]], []),
        ((), [[1, 4]], []),
        ((2, 4), [[1, 1], [3, 3]], []),
        ((1, 2, 2, 3, 3, 4), [], [[2, 3]]),
        ((1, 2, 3, 4, 5, 7), [], []),
    ],
)
def test_iterations_that_are_missing_or_doubled_are_found(iterations, missing, doubled):
    validations = [{"kind": "validation", "iteration": 2}]
    assert holes_in([*steps(*iterations), *validations], 4) == (missing, doubled)


def test_holes_are_told_in_words():
    manifest = Manifest({"metrics_missing": [[2, 3], [6, 6]], "metrics_doubled": [[9, 9]]})
    words = holes_words(manifest)
    assert "iterations 2 to 3, 6 missing from it, 9 in it more than once" in words
    assert holes_words(Manifest({"metrics_missing": [], "metrics_doubled": []})) is None
    assert holes_words(Manifest({})) is None
    many = holes_words(Manifest({"metrics_missing": [[n, n] for n in range(1, 20, 2)]}))
    assert "1, 3, 5, 7, 9 and 5 more missing" in many


def stop_at(iteration):
    def look(record):
        if isinstance(record, StepRecord) and record.iteration == iteration:
            raise Interrupted("now")

    return Progress(on_record=look)


@pytest.fixture
def cut(tmp_path, one_thread):
    """A run that was interrupted after five of eight meta-iterations."""
    with pytest.raises(Interrupted):
        train_tiny(tmp_path / "run", "linear-regression", *WORDS, progress=stop_at(5))
    return tmp_path / "run"


def test_lines_lost_before_the_checkpoint_are_noted_and_said(cut, cli):
    lines = (cut / "metrics.jsonl").read_text().splitlines(keepends=True)
    (cut / "metrics.jsonl").write_text("".join([*lines[:1], *lines[3:]]))
    resumed = cli("train", "--resume", "--run-dir", cut)
    assert resumed.code == 0, resumed.err
    assert "iterations 2 to 3 missing" in " ".join(resumed.err.split())


def test_torn_last_line_is_mended_without_a_word(cut, cli, tmp_path):
    uncut = train_tiny(tmp_path / "uncut", "linear-regression", *WORDS)
    with (cut / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "step", "iterati')
    resumed = cli("train", "--resume", "--run-dir", cut)
    assert resumed.code == 0, resumed.err
    assert "metrics.jsonl" not in resumed.err
    assert_same_results(uncut.path, cut)


def test_metrics_are_on_the_disk_before_the_checkpoint_that_follows_them(tmp_path, monkeypatch, one_thread):
    order, sync, replace = [], os.fsync, os.replace

    def noted_sync(handle):
        order.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        sync(handle)

    def noted_replace(source, target):
        order.append(os.path.basename(target))
        replace(source, target)

    monkeypatch.setattr("os.fsync", noted_sync)
    monkeypatch.setattr("os.replace", noted_replace)
    train_tiny(tmp_path / "run", "linear-regression", *WORDS, "validation={every: 3, tasks: 3}")
    saves = [index for index, name in enumerate(order) if name in ("last.safetensors", "best.safetensors")]
    assert len(saves) >= 5
    starts = [0, *saves]
    assert all("metrics.jsonl" in order[start:save] for start, save in zip(starts, saves, strict=False))
