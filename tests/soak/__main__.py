"""The whole harness: `make soak`. Prints seeds as it goes, and ends with a table of figures.

python -m tests.soak [--kills 200] [--minutes 60] [--seed N] [--step 1] [--only PART ...]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.soak.long_runs import Held
from tests.soak.processes import (
    FORMS,
    ROOT,
    SWEEP,
    TRAIN,
    WORKERS,
    Tally,
    close_terminal,
    kill_at_instants,
    kill_at_points,
    kill_parent,
    reference,
    send_signals,
    shortened,
)

TESTS = Path(__file__).parents[1]
FUZZ = ("fuzz", "runs/test_one_bad_run.py", "training/test_random_recipes.py")
# A command that is started anew at every point takes seconds: one point in so many is tried.
_STEP = {True: 8, False: 2}


@dataclass
class Soak:
    """What was asked for.

    Attributes:
        base: a folder for all that is made.
        kills: at instants, over all forms.
        step: between the points of the walk.
        seed: of all draws.
        until: time.monotonic() at which nothing new is begun.
    """

    base: Path
    kills: int
    step: int
    seed: int
    until: float

    def draw(self, part: str) -> random.Random:
        """Return a generator for one part, so that a part alone draws the same."""
        return random.Random(f"{self.seed} {part}")


def walk(soak: Soak) -> Iterator[Tally]:
    """Kill a small run at every point, in forks of one process."""
    words = [str(soak.base / "walk"), str(soak.seed), str(soak.step), "0"]
    (soak.base / "walk").mkdir()
    walked = json.loads(_printed("tests.soak.walk", words))
    name = f"train: SIGKILL at every write, rename and fsync ({walked['points']} points, one in {soak.step})"
    yield Tally(name, walked["tried"], walked["faults"])


def instants(soak: Soak) -> Iterator[Tally]:
    """Kill real processes at instants: half of them training, a quarter workers, a quarter a sweep."""
    for form, share in zip(FORMS, (2, 4, 4), strict=True):
        whole = reference(form, soak.base)
        yield kill_at_instants(form, whole, soak.base, soak.draw(form.name), soak.kills // share, soak.until)


def points(soak: Soak) -> Iterator[Tally]:
    """Kill workers and a sweep at their points."""
    for form, is_inner in ((WORKERS, True), (SWEEP, False), (SWEEP, True)):
        short = shortened(form)
        whole, _ = reference(short, soak.base)
        yield kill_at_points(short, whole, soak.base, _STEP[is_inner], soak.until, is_inner=is_inner)


def signals(soak: Soak) -> Iterator[Tally]:
    """Send signals, close terminals and kill parents."""
    term, interrupt, hangup = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
    for form in (TRAIN, WORKERS):
        whole, _ = reference(form, soak.base)
        tally = Tally(f"{form.name}: SIGTERM, SIGINT, SIGINT twice, SIGHUP, closed terminal")
        for numbers in ((term,), (interrupt,), (interrupt, interrupt), (hangup,)):
            tally.add(send_signals(form, whole, soak.base, numbers), " ".join(number.name for number in numbers))
        tally.add(close_terminal(form, whole, soak.base), "closed terminal")
        yield tally
    tally = Tally("parent killed: train --workers 2, sweep-depth")
    for form in (WORKERS, SWEEP):
        tally.add(kill_parent(form, reference(form, soak.base)[0], soak.base), form.name)
    yield tally


def long_runs(soak: Soak) -> Iterator[Tally]:
    """Train and evaluate for long."""
    (soak.base / "long").mkdir()
    for found in json.loads(_printed("tests.soak.long_runs", [str(soak.base / "long"), "5000", "2000"])):
        held = Held(**found)
        memory, now = held.memory_mb
        name = f"flat over {held.what}: {memory} -> {now} MB, {held.threads[1]} threads, {held.files[1]} files"
        tally = Tally(name)
        tally.add(held.fault(), "grew by more than 2 %")
        yield tally


def fuzz(soak: Soak) -> Iterator[Tally]:
    """Run the fuzz of hostile files, and random recipes, with their large sizes."""
    files = [str(TESTS / name) for name in FUZZ if (TESTS / name).exists()]
    if not files:
        return
    words = [sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", *files]
    environment = os.environ | {"MAMLCLI_FUZZ": "soak", "PYTHONPATH": str(ROOT)}
    left_s = max(soak.until - time.monotonic(), 60.0)
    try:
        ended = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, timeout=left_s, check=False)
        lines = ended.stdout.decode("utf-8", "replace").strip().split("\n")
        fault = None if ended.returncode == 0 else " ".join(lines[-5:])
    except subprocess.TimeoutExpired:
        lines, fault = ["not over"], f"not over after {left_s:.0f} s"
    tally = Tally(f"hostile files and random recipes, large sizes: {lines[-1]}")
    tally.add(fault, "fuzz")
    yield tally


PARTS: dict[str, Callable[[Soak], Iterator[Tally]]] = {
    "walk": walk,
    "signals": signals,
    "instants": instants,
    "points": points,
    "long": long_runs,
    "fuzz": fuzz,
}


def _printed(module: str, words: list[str]) -> str:
    """Run a module of the harness in a process of its own and return the last line that it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True
    )
    return ended.stdout.decode().strip().split("\n")[-1]


def main() -> int:
    """Run the parts that are asked for; return 1 where a promise did not hold."""
    asked = _asked()
    # A job in a shell's background is deaf to Ctrl-C, and so would be what it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    begun = time.monotonic()
    base = Path(tempfile.mkdtemp(prefix="mamlcli-soak-"))
    soak = Soak(base, asked.kills, asked.step, seed, begun + 60 * asked.minutes)
    os.environ["XDG_CACHE_HOME"] = str(base / "cache")
    _say(f"seed {seed}; again with: python -m tests.soak --seed {seed}")
    tallies, skipped = [], []
    for name, part in PARTS.items():
        if name not in (asked.only or PARTS):
            continue
        if time.monotonic() > soak.until:
            skipped.append(name)
            continue
        for tally in part(soak):
            _say(f"{time.monotonic() - begun:6.0f} s  {tally.name}: {tally.tried} tried, {len(tally.faults)} faults")
            for fault in tally.faults:
                _say(f"          {fault}")
            tallies.append(tally)
    _say("\n| promise | tried | faults |\n|---|---|---|")
    for tally in tallies:
        _say(f"| {tally.name} | {tally.tried} | {len(tally.faults)} |")
    if skipped:
        _say(f"\nnot begun within {asked.minutes} minutes: {', '.join(skipped)}")
    shutil.rmtree(base, ignore_errors=True)
    return int(bool(skipped) or any(tally.faults for tally in tallies))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs at instants")
    parser.add_argument("--step", type=int, default=1, help="points of the walk from one kill to the next")
    parser.add_argument("--minutes", type=float, default=60, help="after these nothing new is begun")
    parser.add_argument("--seed", type=int, help="of all draws; by default another each time")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), help="parts to run")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
