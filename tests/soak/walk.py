"""Walks through all points of a small run, in processes that are forked from one that has imported everything.

python -m tests.soak.walk FOLDER SEED STEP KILLS     # prints a `Walked` as JSON

A run is killed at every STEP-th point (see `points`), the first of them drawn by the seed, and at KILLS instants drawn
uniformly over its wall time; each time it goes on, and must end in the bits of a run that was never killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.soak.points import Points

RUN = "run"
WORDS = (
    "linear-regression",
    "outer.iterations=6",
    "outer.tasks=2",
    "outer.checkpoint_every=2",
    "validation={every: 3, tasks: 3}",
    "evaluation.tasks=4",
    "tasks.dimension=3",
    "tasks.shots=4",
    "tasks.queries=3",
    "inner.steps=1",
    "execution.threads=1",
    "execution.device=cpu",
)
_KILLED = -signal.SIGKILL


@dataclass
class Walked:
    """What came of a walk: how many points the run has, how many kills were tried, and what went wrong."""

    points: int = 0
    tried: int = 0
    kills: int = 0
    faults: list[str] = field(default_factory=list)


def in_child(folder: Path, words: Sequence[str], prepare: Callable[[], object] = lambda: None) -> int:
    """Start `mamlcli WORDS...` in a fork of this process; return its process id."""
    child = os.fork()
    if child:
        return child
    code: object = 1
    try:
        with open(folder / "log", "wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.chdir(folder)
        sys.argv = ["mamlcli", *words]
        prepare()
        from mamlcli.__main__ import main

        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def end_of(child: int) -> int:
    """Wait for a process to end; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def start_words() -> list[str]:
    """Return the command that trains the run."""
    return ["train", *WORDS, "--run-dir", RUN]


def ways_to_go_on(folder: Path) -> list[list[str]]:
    """Return the commands with which a run goes on that was killed; one without a manifest may begin anew instead."""
    resume = ["train", "--resume", "--run-dir", RUN]
    return [resume] if (folder / RUN / "manifest.json").is_file() else [start_words(), resume]


def fault_of(folder: Path, whole: Path) -> str | None:
    """Let a run that was killed go on to its end; return what is wrong with it, None where nothing is."""
    from tests.helpers.running import assert_same_results

    told: list[str] = []
    for words in ways_to_go_on(folder):
        if (code := end_of(in_child(folder, words))) == 0:
            break
        lines = (folder / "log").read_text(encoding="utf-8", errors="replace").split("\n")
        told += [f"{' '.join(words[:2])}: exit {code}:", *([line for line in lines if "error:" in line] or lines[-3:])]
    else:
        return " ".join(told)[:600]
    try:
        assert_same_results(whole / RUN, folder / RUN)
    except (AssertionError, OSError, ValueError) as error:
        return f"other results: {str(error)[:200]}"
    for name in ("tasks.csv", "recipe.yaml"):
        if (whole / RUN / name).read_bytes() != (folder / RUN / name).read_bytes():
            return f"another {name}"
    litter = [path.name for path in folder.rglob("*.partial")]
    status = json.loads((folder / RUN / "manifest.json").read_text(encoding="utf-8"))["status"]
    if status != "done":
        return f"status {status!r}"
    return f"left behind: {', '.join(litter)}" if litter else None


def walk(base: Path, seed: int, step: int, kills: int) -> Walked:
    """Walk through the points and draw the instants; everything is done below `base`."""
    draw, walked = random.Random(seed), Walked()
    whole, names = new_folder(base, "whole"), base / "points"
    started = time.monotonic()
    assert end_of(in_child(whole, start_words(), noting(whole, 0, names))) == 0, (whole / "log").read_text()
    wall_s = time.monotonic() - started
    points = names.read_text(encoding="utf-8").splitlines()
    walked.points = len(points)
    for number in range(draw.randint(1, step), len(points) + 1, step):
        folder = new_folder(base, "killed")
        code = end_of(in_child(folder, start_words(), noting(folder, number, base / "mark")))
        walked.tried += 1
        fault = f"ended with {code}, not killed" if code != _KILLED else fault_of(folder, whole)
        if fault:
            walked.faults.append(f"killed at point {points[number - 1]}: {fault}")
    killed_at_instants(base, walked, draw, kills, wall_s)
    return walked


def noting(folder: Path, number: int, names: Path) -> Callable[[], None]:
    """Return what a forked process does first: count its points, note them in a file, be killed at one of them."""

    def prepare() -> None:
        handle = os.open(names, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        Points(folder / RUN, number, lambda words: os.write(handle, f"{words}\n".encode())).install()

    return prepare


def killed_at_instants(base: Path, walked: Walked, draw: random.Random, kills: int, wall_s: float) -> None:
    """Kill runs at instants drawn over their wall time; each goes on, and may be killed again before its end."""
    folder, whole, times = new_folder(base, "instants"), base / "whole", []
    while walked.kills < kills:
        times.append(round(draw.uniform(0, wall_s), 3))
        child = in_child(folder, ways_to_go_on(folder)[0])
        time.sleep(times[-1])
        os.kill(child, signal.SIGKILL)
        was_killed = end_of(child) == _KILLED
        walked.kills += was_killed
        if not was_killed or walked.kills == kills or len(times) == 4:
            if fault := fault_of(folder, whole):
                walked.faults.append(f"killed after {times} s: {fault}")
            folder, times = new_folder(base, "instants"), []


def new_folder(base: Path, name: str) -> Path:
    """Return an empty folder; what it had is deleted."""
    shutil.rmtree(base / name, ignore_errors=True)
    (base / name).mkdir(parents=True)
    return base / name


def import_everything() -> None:
    """Import what a run needs, without computing anything: threads of torch would be lost in a fork.

    The curve is not drawn, only written: drawing takes most of the time of so small a run.
    """
    import mamlcli.cli.app
    import mamlcli.cli.next_commands
    import mamlcli.cli.progress
    import mamlcli.cli.train
    import mamlcli.tasks.synthetic
    import mamlcli.training.scoring
    import mamlcli.training.start
    from tests.helpers.curves import undrawn_curve

    mamlcli.training.scoring.save_curve = undrawn_curve


if __name__ == "__main__":
    import_everything()
    place, *numbers = sys.argv[1:]
    print(json.dumps(asdict(walk(Path(place), *map(int, numbers)))))  # noqa: T201
