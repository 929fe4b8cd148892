"""Studies of parts that are given: they are pickled for the processes, which import their code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import mamlcli
from mamlcli.common.errors import MamlError
from tests.helpers.foreign_networks import Points

KEYS = {
    "outer.iterations": 2,
    "outer.tasks": 2,
    "validation.every": None,
    "evaluation.tasks": 4,
    "inner.steps": 1,
    "tasks.ways": 3,
}


def test_sweep_compares_transforms_on_own_network_and_data(tmp_path: Path) -> None:
    tasks = mamlcli.few_shot_tasks(torch.randn(120, 6), torch.arange(15).repeat_interleave(8))
    result = mamlcli.sweep(
        "glyphs-5way-1shot",
        KEYS,
        optimizers=["none", "kfo"],
        seeds=1,
        jobs=1,
        folder=tmp_path / "study",
        network=Points,
        tasks=tasks,
    )
    assert result.failures == ()
    assert [cell.value for cell in result.cells] == ["none", "kfo"]


def test_parts_that_other_processes_cannot_have_are_refused(tmp_path: Path) -> None:
    class Local(nn.Linear):
        pass

    tasks = mamlcli.few_shot_tasks(torch.randn(120, 6), torch.arange(15).repeat_interleave(8))
    given = {"network": Local(6, 3), "tasks": tasks}
    with pytest.raises(MamlError, match=r"network, tasks: expected parts that other processes can import"):
        mamlcli.sweep("glyphs-5way-1shot", KEYS, optimizers=["none", "kfo"], seeds=1, folder=tmp_path / "a", **given)
    with pytest.raises(MamlError, match=r"expected a network with the key model.depth, which this study varies"):
        mamlcli.sweep("glyphs-5way-1shot", KEYS, depths=[1, 2], seeds=1, folder=tmp_path / "b", **given)
