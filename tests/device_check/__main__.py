"""Check the device of this machine: `make device-check OUT=FOLDER`. Writes results.json and summary.txt there.

python -m tests.device_check FOLDER [--device auto] [--seconds 200] [--only PART ...] [--small]

The exit code is 0 where all meta-gradients that were to be compared are equal, 1 where not.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mamlcli.bench.peers import absent_peers
from mamlcli.common.errors import DeviceError
from mamlcli.common.machine import device_name, now, versions
from mamlcli.training.placement import resolve_device
from mamlcli.training.tf32 import use_tf32
from tests.device_check.equality import equality
from tests.device_check.parts import Part, Setting, run_part
from tests.device_check.speed import bench, iterations, memory
from tests.device_check.workers import workers

# Each with the seconds after which it begins nothing new; what a part leaves over, the next ones have.
PARTS: dict[str, tuple[Callable[[Part, Setting], None], float]] = {
    "equality": (equality, 70.0),
    "memory": (memory, 10.0),
    "iterations": (iterations, 36.0),
    "bench": (bench, 40.0),
    "workers": (workers, 1.0),
}


def check(folder: Path, device: torch.device, *, names: list[str], seconds: float, is_small: bool) -> int:
    """Run the parts, write what they found after each, and return the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    if device.type == "cuda":
        use_tf32(False)
    began, parts = time.monotonic(), []
    for name in names:
        function, share_s = PARTS[name]
        # The small form is short whatever the machine: its parts have all the time there is.
        until = began + seconds if is_small else min(began + seconds, time.monotonic() + share_s)
        part = Part(name)
        parts.append(part)
        if time.monotonic() > began + seconds:
            part.unseen.append(f"{name}: the time was over")
        else:
            print(f"{name} ...", flush=True)  # noqa: T201
            run_part(part, function, Setting(device, is_small, until))
        _write(folder, device, parts)
    print((folder / "summary.txt").read_text(encoding="utf-8"))  # noqa: T201
    return 0 if next((part.holds for part in parts if part.name == "equality"), None) else 1


def _write(folder: Path, device: torch.device, parts: list[Part]) -> None:
    content = {
        "device": device_name(device),
        "versions": versions(),
        "cuda": torch.version.cuda,
        "finished_at": now(),
        "absent_peers": list(absent_peers().values()),
        "parts": [part.to_json() for part in parts],
    }
    (folder / "results.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    (folder / "summary.txt").write_text(summary(device_name(device), parts), encoding="utf-8")


def summary(device: str, parts: list[Part]) -> str:
    """Return all lines of all parts, what was not seen, and a table of the parts at the end."""
    lines = [f"Device check of {device}, torch {torch.__version__}"]
    for part in parts:
        lines += ["", f"== {part.name} ({part.seconds} s)", *part.lines]
        lines += [f"ended by {part.error}"] if part.error else []
    unseen = [f"- {text}" for part in parts for text in part.unseen]
    lines += ["", "Not seen:", *(unseen or ["- nothing"]), "", f"{'part':<12} {'seconds':>8}  result"]
    results = {True: "holds", False: "DOES NOT HOLD", None: "measured"}
    for part in parts:
        is_empty = part.holds is None and not part.rows
        result = "not seen" if is_empty else results[part.holds]
        lines.append(f"{part.name:<12} {part.seconds:>8}  {result}{', ended by an error' if part.error else ''}")
    return "\n".join(lines) + "\n"


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make device-check", description="Check what only a GPU can tell.")
    parser.add_argument("folder", type=Path, help="folder for results.json and summary.txt")
    parser.add_argument("--device", default="auto", help="as execution.device")
    parser.add_argument("--seconds", type=float, default=200.0, help="after these nothing new is begun")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    parser.add_argument("--small", action="store_true", help="a form that takes seconds; implied without a GPU")
    asked = parser.parse_args(words)
    try:
        device = resolve_device(asked.device)
    except DeviceError as error:
        parser.error(str(error))
    is_small = asked.small or device.type == "cpu"
    return check(asked.folder, device, names=asked.only, seconds=asked.seconds, is_small=is_small)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(240, exit=True)  # a GPU that hangs would be waited for without end
    sys.exit(main(sys.argv[1:]))
