"""Two processes on one GPU, which nccl does not connect: what mamlcli says of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mamlcli
from mamlcli.common.processes.launch import RENDEZVOUS
from tests.device_check.parts import Part, Setting
from tests.helpers.running import TINY

# For the processes of one way to end; a connection that fails says so within seconds.
_LIMIT_S = 30

_KEYS = [word for word in TINY if not word.startswith("execution.device")]


def workers(part: Part, setting: Setting) -> None:
    """Start two workers on one GPU in both ways there are; the part holds where each is refused or finishes."""
    if not setting.is_cuda:
        part.unseen.append("two nccl processes on one device: there is no CUDA device")
        return
    part.holds = True
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "sinusoid", *_KEYS, "--device", "cuda", "--run-dir"]
        on_one_machine = [*words, str(Path(folder) / "a"), "--workers", "2"]
        meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611"}
        # Each says that it is alone on its machine, so that nccl itself is asked.
        meeting |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        of_two = [([*words, str(Path(folder) / "b")], {**meeting, "RANK": str(rank)}) for rank in range(2)]
        _seen(part, "--workers 2 with one GPU", [(on_one_machine, {})])
        _seen(part, "two machines that share one GPU", of_two)


def _seen(part: Part, name: str, commands: list[tuple[list[str], dict[str, str]]]) -> None:
    """Run processes side by side, and keep how they ended."""
    base = {key: value for key, value in os.environ.items() if key != RENDEZVOUS}
    base |= {"CUDA_VISIBLE_DEVICES": "0", "PYTHONPATH": str(Path(mamlcli.__file__).parents[1])}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "mamlcli", *words],
            env=base | further,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for words, further in commands
    ]
    ends, until = [], time.monotonic() + _LIMIT_S
    for process in started:
        try:
            out, _ = process.communicate(timeout=max(1.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
            ends.append(("still waiting, killed", _last_line(out)))
            continue
        words = {0: "handled", 1: "refused"}.get(process.returncode, f"failed with code {process.returncode}")
        ends.append((words, _last_line(out)))
    for how, line in ends:
        part.rows.append({"what": name, "end": how, "said": line})
        part.lines.append(f"{name}: {how}: {line}")
        part.holds = bool(part.holds) and how in ("handled", "refused")


def _last_line(text: str) -> str:
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    return (errors or text.strip().splitlines() or [""])[-1][:300]
