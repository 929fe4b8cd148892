"""What a study shows on its way and at its end."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mamlcli.cli.study_display import (
    SweepProgress,
    again,
    collapse_text,
    raise_failures,
    show_collapse,
    warn_about_jobs,
)
from mamlcli.common.errors import MamlError
from mamlcli.common.statistics import Score
from mamlcli.studies.sweeps.cell_result import CollapseRecord
from mamlcli.studies.sweeps.run import CellEnd
from mamlcli.studies.sweeps.scores import StudyScores
from mamlcli.studies.where.places import Wish


def test_more_jobs_than_cores_are_a_warning(cli, monkeypatch):
    warnings = []
    monkeypatch.setattr("mamlcli.cli.console.warn", warnings.append)
    for wish in (Wish(), Wish(jobs=1), Wish("tcp://127.0.0.1:8786", jobs=1000)):
        warn_about_jobs(wish)
    assert not warnings
    warn_about_jobs(Wish(jobs=1000))
    assert "cores" in warnings[0]


SWEEP = SimpleNamespace(num_seeds=3, inner_lrs=[0.1, 1.0], values=["1", "2"])


def test_the_plan_counts_values_rates_seeds_and_processes():
    assert SweepProgress(SWEEP, 2).plan == "2 values x 2 inner learning rates x 3 seeds, 2 at a time"
    one = SimpleNamespace(num_seeds=1, inner_lrs=[], values=["1"])
    assert SweepProgress(one, 1).plan == "1 values x 1 seed, 1 at a time"


def scores(**means):
    return StudyScores({name: Score(mean, 0.1) for name, mean in means.items()}, "tasks")


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (CellEnd("depth 1", "done", 1, 4, scores(loss=0.5, accuracy=0.87), "", 10.0), "[1/4] depth 1: loss 0.500, "),
        (CellEnd("depth 1", "done", 1, 4, scores(loss=0.5, accuracy=0.87), "", 10.0), "accuracy 87.0 % (10 s; about"),
        (CellEnd("depth 1", "done", 4, 4, scores(loss=0.5), "", 10.0), "[4/4] depth 1: loss 0.500 (10 s)"),
        (CellEnd("depth 1", "done", 1, 1, scores(loss=float("nan"))), "loss not finite"),
        (CellEnd("depth 1", "skipped", 1, 2, scores(loss=0.5)), "[1/2] depth 1: loss 0.500 (was done)"),
        (CellEnd("depth 1", "diverged", 1, 1, None, "iteration 3: loss is inf", 2.0), "diverged: iteration 3 (2 s)"),
        (CellEnd("depth 1", "failed", 1, 1, None, "disk: full", 2.0), "failed: disk: full (2 s)"),
        (CellEnd("depth 1", "interrupted", 1, 2), "[1/2] depth 1: interrupted\n"),
    ],
)
def test_the_line_of_a_cell_says_how_it_ended(capsys, end, expected):
    SweepProgress(SWEEP, 1).show(end)
    assert expected in capsys.readouterr().err


def test_time_that_is_left_is_shared_by_the_processes(capsys):
    progress = SweepProgress(SWEEP, 2)
    progress.show(CellEnd("a", "done", 1, 9, None, "", 10.0))
    # Eight more of ten seconds each, two at a time.
    assert "about 40 s left" in capsys.readouterr().err


def test_the_command_that_continues_names_the_folder_once(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mamlcli", "sweep-depth", "--depths", "1, 2"])
    assert again(Path("runs/a")) == "mamlcli sweep-depth --depths '1, 2' --dir runs/a"
    for words in (["--dir", "runs/a"], ["--dir=runs/a"]):
        monkeypatch.setattr(sys, "argv", ["mamlcli", "meta-opt", *words])
        assert again(Path("runs/a")) == " ".join(["mamlcli", "meta-opt", *words])


RECORD = CollapseRecord(20, 8, 100, 0.5, 2e-3, 1e-4)


def test_failed_cells_are_all_named_with_what_tries_them_again():
    result = SimpleNamespace(failures=[("depth 1", "no memory"), ("depth 2", "no disk")], cells=[])
    with pytest.raises(MamlError, match=r"2 that failed. depth 1: no memory; depth 2: no disk.*: mamlcli x"):
        raise_failures(result, Path("study"), "mamlcli x")


def test_a_collapsed_model_with_other_outputs_is_an_error():
    cell = SimpleNamespace(collapse=SimpleNamespace(worst=RECORD))
    with pytest.raises(MamlError, match=r"relative difference of 2.0e-03"):
        raise_failures(SimpleNamespace(failures=[], cells=[cell]), Path("study"), "mamlcli x")
    same = SimpleNamespace(collapse=SimpleNamespace(worst=replace(RECORD, largest_relative_difference=1e-6)))
    raise_failures(SimpleNamespace(failures=[], cells=[same]), Path("study"), "mamlcli x")


def test_a_collapse_needs_a_run_and_says_what_became_of_it():
    with pytest.raises(MamlError, match="--collapse: expected a run directory as first argument, got none"):
        show_collapse(None, Path("out"))
    assert "out: 20 parameters collapsed to 8" in collapse_text(RECORD, Path("out"))
    assert "is 2.0e-03 of the largest output (allowed: 1e-04)" in collapse_text(RECORD, Path("out"))
