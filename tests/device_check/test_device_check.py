"""The check of a GPU in its small form: what it says of a device, of errors, and of what it could not see."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mamlcli.engine import execution
from mamlcli.training.tf32 import tf32_kept
from tests.device_check import __main__ as program
from tests.device_check import equality as equality_module
from tests.device_check.equality import GRAPHS, cases, equality
from tests.device_check.parts import Part, Setting, run_part
from tests.helpers.benches import make_samples_short
from tests.helpers.graphs import Recorded
from tests.helpers.problems import EVERY_TRANSFORM, NETWORKS

pytestmark = pytest.mark.usefixtures("one_thread")

LATER = float("inf")


class AsCuda(Setting):
    """The CPU, taken for a CUDA device."""

    is_cuda = True


def checked(folder, *words):
    # Nothing here depends on how busy the machine is.
    code = program.main([str(folder), "--device", "cpu", "--seconds", "1e6", *words])
    return code, json.loads((folder / "results.json").read_text()), (folder / "summary.txt").read_text()


def test_small_form_runs_every_part_and_says_what_it_could_not_see(tmp_path, monkeypatch):
    make_samples_short(monkeypatch)
    code, results, text = checked(tmp_path / "out")
    by_name = {part["name"]: part for part in results["parts"]}
    assert code == 0, text
    assert {name: part["holds"] for name, part in by_name.items()} == {
        "equality": True,
        "memory": None,
        "iterations": None,
        "bench": None,
        "workers": None,
    }
    assert [part["error"] for part in results["parts"]] == [None] * 5
    assert {(row["path"], row["dtype"]) for row in by_name["equality"]["rows"]} == {
        (path, dtype) for path in ("loop", "batched", "explicit") for dtype in ("float64", "float32")
    }
    assert [row["recipe"] for row in by_name["iterations"]["rows"]] == [
        "omniglot-5way-1shot-full",
        "cifar-fs-5way-5shot",
    ]
    assert "mamlcli (auto)" in {row["implementation"] for row in by_name["bench"]["rows"]}
    for unseen in (
        "CUDA graphs",
        "two nccl processes on one device: there is no CUDA device",
        "memory over iterations",
    ):
        assert f"- {unseen}" in text
    assert text.rstrip().splitlines()[-1].split() == ["workers", "0.0", "not", "seen"]


def test_whole_form_has_every_algorithm_transform_and_network():
    whole = list(cases(is_small=False))
    assert len(set(whole)) == len(whole)
    assert {(case.algorithm, case.transform) for case in whole if not case.settings} == {
        (algorithm, transform) for algorithm in equality_module.ALGORITHMS for transform in EVERY_TRANSFORM
    }
    assert {case.network for case in whole} == {"cnn", *NETWORKS}


def test_replayed_meta_gradients_are_compared_and_one_that_is_not_replayed_is_said(monkeypatch):
    setting = AsCuda(torch.device("cpu"), True, LATER)
    recorders = [Recorded(), Recorded(), Recorded(error=RuntimeError("no memory")), Recorded()]
    monkeypatch.setattr(equality_module, "CudaRecorder", lambda device: recorders.pop(0))
    part = Part("equality")
    with tf32_kept():
        equality(part, setting)
    assert part.holds, part.lines
    of_graphs = [row for row in part.rows if row["path"] == GRAPHS]
    assert [row.get("not replayed") for row in of_graphs] == [None, None, "no memory", None]
    assert any(line.startswith("not replayed: mlp, anil, none") for line in part.lines)
    assert part.rows[-1]["path"] == "explicit, TF32"


def test_another_meta_gradient_or_an_error_is_found_and_the_exit_code_says_so(tmp_path, monkeypatch):
    def wrong(objective, metas, episode, how, **settings):
        [found] = execution.meta_gradients(objective, metas, episode, how, **settings)
        if how.path == "batched":
            raise RuntimeError("no such kernel")
        is_wrong = how.path == "explicit" and episode.support_x.dtype == torch.float64
        return [replace(found, gradients={k: v * (1.001 if is_wrong else 1) for k, v in found.gradients.items()})]

    monkeypatch.setattr(equality_module, "meta_gradients", wrong)
    code, _, text = checked(tmp_path, "--only", "equality")
    assert code == 1
    assert "DIFFERS cnn, maml, kfo, explicit, float64: 1.0e-03" in text
    assert "FAILED cnn, maml, kfo, batched, float32: RuntimeError: no such kernel" in text
    assert text.rstrip().endswith("DOES NOT HOLD")


def test_an_error_ends_one_part_and_the_next_goes_on(tmp_path, monkeypatch):
    def breaks(part, setting):
        part.rows.append({"kept": 1})
        raise ValueError("what it was")

    later = []
    parts = {"bench": (breaks, 1.0), "workers": (lambda part, setting: later.append(part.name), 1.0)}
    monkeypatch.setattr(program, "PARTS", program.PARTS | parts)
    code, results, text = checked(tmp_path, "--only", "bench", "workers")
    assert later == ["workers"]
    assert (code, results["parts"][0]["rows"]) == (1, [{"kept": 1}])  # nothing was compared
    assert "ended by ValueError: what it was" in text


def test_time_that_is_over_is_said_and_is_no_equality(tmp_path):
    code, _, text = checked(tmp_path, "--seconds", "0", "--only", "equality")
    assert (code, "- equality: the time was over" in text) == (1, True)
    part = Part("equality")
    run_part(part, equality, Setting(torch.device("cpu"), True, until=0.0))
    assert part.holds is False
    assert "2 of 2 cases: the time of the part was over" in part.unseen


def test_device_that_is_not_there_is_refused_in_a_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        program.main([str(tmp_path), "--device", "cuda:99"])
    assert stop.value.code == 2
    assert "cuda:99" in capsys.readouterr().err
