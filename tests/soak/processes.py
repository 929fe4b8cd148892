"""Real `mamlcli` processes that are killed, signalled or left without parent or terminal, and must end as promised."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import mamlcli
from tests.helpers.running import assert_same_results, iterations_done
from tests.soak.points import FOLDER, INNER, MARK, NUMBER

ROOT = Path(mamlcli.__file__).parents[1]
SITE = Path(__file__).parent / "site"
_TOKEN = "SOAK_TOKEN"
# The promise is that nothing outlives what it was started by for longer; workers save their run first.
ORPHANS_S, END_S = 30.0, 300.0

_SMALL = (
    "outer.tasks=2",
    "validation={every: 100, tasks: 3}",
    "evaluation.tasks=4",
    "tasks.dimension=3",
    "tasks.shots=4",
    "tasks.queries=3",
    "inner.steps=1",
    "execution.threads=1",
    "execution.device=cpu",
)
_KEYS = ("linear-regression", "outer.iterations=2000", "outer.checkpoint_every=20", *_SMALL)


@dataclass(frozen=True)
class Form:
    """A command that writes one run or several, and how it goes on after a kill.

    Attributes:
        name: in the table.
        start: its words.
        resume: the words with which it goes on, once what `mark` names is there.
        mark: a file.
        runs: a pattern for the folders of its runs.
    """

    name: str
    start: tuple[str, ...]
    resume: tuple[str, ...]
    mark: str
    runs: str

    def next_words(self, folder: Path) -> tuple[str, ...]:
        """Return the words with which the command begins or goes on in a folder."""
        return self.resume if (folder / self.mark).is_file() else self.start


_RESUME = ("train", "--resume", "--run-dir", "run")
_SWEEP = (
    "sweep-depth",
    *_KEYS,
    *("--depths", "1,2", "--seeds", "1", "--jobs", "2", "--no-capacity", "--inner-lrs", "0.1", "--dir", "study"),
)
TRAIN = Form("train", ("train", *_KEYS, "--run-dir", "run"), _RESUME, "run/manifest.json", "run")
WORKERS = Form(
    "train --workers 2", ("train", *_KEYS, "--run-dir", "run", "--workers", "2"), _RESUME, "run/manifest.json", "run"
)
SWEEP = Form("sweep-depth", _SWEEP, _SWEEP, "study/study.json", "study/cells/*")
FORMS = (TRAIN, WORKERS, SWEEP)


def shortened(form: Form) -> Form:
    """Return a form of few iterations, whose points are few enough to try."""
    words = ("outer.iterations=10", "outer.checkpoint_every=3", "validation={every: 4, tasks: 3}")
    resume = form.resume if form.resume == _RESUME else (*form.resume, *words)
    return replace(form, name=f"short {form.name}", start=(*form.start, *words), resume=resume)


@dataclass
class Started:
    """A process in a session of its own, whose descendants are known by a variable of their environment."""

    process: subprocess.Popen[bytes]
    token: str
    log: Path

    def members(self) -> list[int]:
        """Return the ids of the process and all that descend from it, as long as they run."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                is_zombie = (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                if not is_zombie and f"{_TOKEN}={self.token}".encode() in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
        return sorted(found)

    def orphans(self) -> list[int]:
        """Return what still runs a while after the process itself has ended."""
        deadline = time.monotonic() + ORPHANS_S
        while (left := self.members()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def end(self, timeout_s: float = END_S) -> int | None:
        """Wait for the process; return its exit code, None where it does not end."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def last_words(self) -> str:
        """Return the errors that the process told, else its last line."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return " ".join([line for line in lines if "error:" in line] or lines[-2:])[:400]


@contextmanager
def started(
    folder: Path, words: Sequence[str], variables: dict[str, str] | None = None, terminal: int | None = None
) -> Iterator[Started]:
    """Start `mamlcli WORDS...` in a folder; whatever is left of it at the end is killed."""
    token, log = uuid.uuid4().hex, folder / "log"
    environment = os.environ | {"PYTHONPATH": str(ROOT), _TOKEN: token, "OMP_NUM_THREADS": "1"} | (variables or {})
    command = [sys.executable, "-m", "mamlcli", *words]
    with log.open("wb") as stream:
        outputs = {"stdin": subprocess.DEVNULL, "stdout": stream, "stderr": stream}
        if terminal is not None:
            outputs = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
        process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **outputs)  # type: ignore[call-overload]
    begun = Started(process, token, log)
    try:
        yield begun
    finally:
        for member in begun.members():
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        process.wait()


@dataclass
class Tally:
    """What a part of the harness did and found."""

    name: str
    tried: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, fault: str | None, what: str) -> None:
        """Count one try and note its fault, where it has one."""
        self.tried += 1
        if fault:
            self.faults.append(f"{self.name}, {what}: {fault}")


def reference(form: Form, base: Path) -> tuple[Path, float]:
    """Return the folder of a command that nothing has cut, and its seconds."""
    folder, begun = new_folder(base / f"whole-{form.name.replace(' ', '-')}"), time.monotonic()
    with started(folder, form.start) as process:
        code = process.end()
        assert code == 0, f"{form.name}: exit {code}: {process.last_words()}"
    return folder, time.monotonic() - begun


def new_folder(path: Path) -> Path:
    """Return an empty folder; what it had is deleted."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def fault_of(form: Form, folder: Path, whole: Path) -> str | None:
    """Let a command go on to its end; return what is wrong with its results, None where nothing is."""
    ways = [form.next_words(folder)]
    if form.resume not in ways:
        ways.append(form.resume)
    told = []
    for words in ways:
        with started(folder, words) as process:
            if (code := process.end()) == 0:
                break
            told.append(f"{words[0]}: exit {code}: {process.last_words()}")
    else:
        return "; ".join(told)
    return difference(form, folder, whole)


def difference(form: Form, folder: Path, whole: Path) -> str | None:
    """Return in which way the results of a command are not those of one that was never cut."""
    wanted, found = (sorted(path.relative_to(place) for path in place.glob(form.runs)) for place in (whole, folder))
    if wanted != found:
        return f"expected the runs {[*map(str, wanted)]}, got {[*map(str, found)]}"
    for run in wanted:
        try:
            assert_same_results(whole / run, folder / run)
        except (AssertionError, OSError, ValueError) as error:
            return f"{run}: other results: {str(error)[:200]}"
        status = json.loads((folder / run / "manifest.json").read_text(encoding="utf-8"))["status"]
        if status != "done":
            return f"{run}: status {status!r}"
    litter = [path.name for path in folder.rglob("*.partial")]
    return f"left behind: {', '.join(litter)}" if litter else None


# Kills ------------------------------------------------------------------------------------------------------------


def kill_at_instants(
    form: Form, whole: tuple[Path, float], base: Path, draw: random.Random, num: int, until: float
) -> Tally:
    """Kill a command at instants drawn uniformly over its wall time: the process, one of its own, or all at once."""
    tally = Tally(f"{form.name}: SIGKILL at an instant")
    folder, history = new_folder(base / "instants"), []
    while tally.tried < num and time.monotonic() < until:
        after_s, whom = draw.uniform(0, whole[1]), draw.choice(("main", "one", "all"))
        with started(folder, form.next_words(folder)) as process:
            code = process.end(after_s)
            members = process.members()
            main = process.process.pid
            others = [member for member in members if member != main]
            targets = {"main": [main], "one": others[-1:] or [main], "all": members}[whom]
            for target in targets if code is None else ():
                with suppress(ProcessLookupError):
                    os.kill(target, signal.SIGKILL)
            if code is None:
                process.end()
                history.append(f"{whom} after {after_s:.2f} s")
            left = process.orphans()
        if left:
            tally.faults.append(f"{tally.name}, {history}: {len(left)} processes were left")
        if code is None:
            tally.tried += 1
        if code is not None or len(history) == 4:
            if fault := fault_of(form, folder, whole[0]):
                tally.faults.append(f"{tally.name}, {history}: {fault}")
            folder, history = new_folder(base / "instants"), []
    if history and (fault := fault_of(form, folder, whole[0])):
        tally.faults.append(f"{tally.name}, {history}: {fault}")
    return tally


def kill_at_points(form: Form, whole: Path, base: Path, step: int, until: float, *, is_inner: bool) -> Tally:
    """Kill a command at every step-th write, rename and fsync of its first process, or of those that it starts."""
    who = "inner processes" if is_inner else "first process"
    tally, number = Tally(f"{form.name}: SIGKILL at every {step}th point of its {who}"), 1
    mark = base / "mark"
    while time.monotonic() < until:
        folder = new_folder(base / "points")
        mark.unlink(missing_ok=True)
        place = folder / form.mark.split("/")[0]
        variables = {"PYTHONPATH": f"{ROOT}{os.pathsep}{SITE}", INNER + "_ALONE": str(int(is_inner))}
        variables |= {FOLDER: str(place), NUMBER: str(number), MARK: str(mark)}
        with started(folder, form.start, variables) as process:
            code, left = process.end(), process.orphans()
        if not mark.is_file():
            break
        point = mark.read_text(encoding="utf-8")
        fault = f"{len(left)} processes were left" if left else "exit 0" if code == 0 and not is_inner else None
        tally.add(fault or fault_of(form, folder, whole), f"at {point}")
        number += step
    return tally


# Signals ----------------------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], bool], process: Started) -> None:
    """Wait until a condition holds or a process has ended."""
    deadline = time.monotonic() + END_S
    while not condition() and process.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def send_signals(form: Form, whole: Path, base: Path, numbers: Sequence[signal.Signals]) -> str | None:
    """Send signals to a command that trains; return what is not as promised: state saved, exit code, no orphan."""
    folder, begun = new_folder(base / "signals"), time.monotonic()
    with started(folder, (*form.start, "outer.checkpoint_every=100000")) as process:
        wait_until(lambda: iterations_done(folder / "run") > 20, process)
        for number in numbers:
            process.process.send_signal(number)
            time.sleep(0.05)  # two of a kind that wait for a process are one
        code, left = process.end(60), process.orphans()
        said = process.last_words()
    if code not in ((130, 128 + signal.SIGHUP) if signal.SIGHUP in numbers else (130,)):
        return f"exit {code} after {time.monotonic() - begun:.1f} s: {said}"
    return _saved(folder, left, is_twice=len(numbers) > 1) or fault_of(form, folder, whole)


def _saved(folder: Path, left: list[int], *, is_twice: bool = False) -> str | None:
    """Return what is wrong with a run that was told to stop; a second signal may cost what the first would save."""
    manifest = json.loads((folder / "run" / "manifest.json").read_text(encoding="utf-8"))
    if left:
        return f"{len(left)} processes were left"
    if manifest["status"] not in ("interrupted", "done"):
        return f"status {manifest['status']!r}"
    if not is_twice and not (folder / "run" / "checkpoints" / "last.safetensors").is_file():
        return "no checkpoint"
    return None


def close_terminal(form: Form, whole: Path, base: Path) -> str | None:
    """Close the terminal that a command trains in; return what is not as promised."""
    folder = new_folder(base / "terminal")
    ours, theirs = pty.openpty()
    with started(folder, (*form.start, "outer.checkpoint_every=100000"), terminal=theirs) as process:
        os.close(theirs)
        os.set_blocking(ours, False)
        wait_until(lambda: _drained(ours) and iterations_done(folder / "run") > 20, process)
        os.kill(process.process.pid, signal.SIGHUP)  # what the kernel sends to the leader of the session
        with suppress(OSError):
            os.close(ours)
        code, left = process.end(60), process.orphans()
    if code is None:
        return "still there after 60 s"
    return _saved(folder, left) or fault_of(form, folder, whole)


def _drained(terminal: int) -> bool:
    """Read what a process has written to a terminal, so that it need not wait."""
    with suppress(OSError):
        while os.read(terminal, 65536):
            pass
    return True


def kill_parent(form: Form, whole: Path, base: Path) -> str | None:
    """Kill the process that has started others; return what is not as promised."""
    folder = new_folder(base / "parent")
    with started(folder, form.start) as process:
        wait_until(lambda: any(iterations_done(run) > 20 for run in folder.glob(form.runs)), process)
        process.process.kill()
        process.end()
        if left := process.orphans():
            return f"{len(left)} processes were left after {ORPHANS_S:.0f} s"
    return fault_of(form, folder, whole)
