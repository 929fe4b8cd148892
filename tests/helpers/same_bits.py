"""Compares what an older commit and the working tree compute on this machine, bit for bit: make same-bits OLD=COMMIT.

Both are used through the command line alone, by the same Python and its packages, so the layout of the package may
change between them. Each case is a training, a study, or one that was stopped in the middle and resumed; what it
leaves is compared file by file, without times: recipe, weights and optimizer state, metrics, scores, results.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
COMPARED = (
    "*.safetensors",
    "metrics.jsonl",
    "evaluation.json",
    "result.json",
    "tasks.csv",
    "result.csv",
    "recipe.yaml",
)

KEYS = (
    "outer.tasks=5",
    "validation={every: 4, tasks: 4}",
    "evaluation.tasks=6",
    "execution.threads=1",
    "execution.device=cpu",
    "inner.steps=2",
    "outer.checkpoint_every=5",
)
POINTS = (*KEYS, "outer.iterations=12", "tasks.shots=6", "tasks.queries=5")
IMAGES = (*KEYS, "outer.iterations=5", "tasks.queries=3", "model.depth=2", "model.width=6")
ANIL = "inner.algorithm=anil"
LONG = (*POINTS, "outer.iterations=200", "validation={every: 50, tasks: 4}")


@dataclass(frozen=True)
class Case:
    """One command whose result is compared.

    Attributes:
        name: what it tries.
        words: after `mamlcli`; the result goes to `out` in the current folder.
        stopped_by: the signal that ends it in the middle; it is resumed then. None for a command left alone.
        resume: the words that resume it.
    """

    name: str
    words: tuple[str, ...]
    stopped_by: signal.Signals | None = None
    resume: tuple[str, ...] = ("train", "--resume", "--run-dir", "out")


def train(*words: str) -> tuple[str, ...]:
    return ("train", *words, "--run-dir", "out")


def study(*keys: str, jobs: int) -> tuple[str, ...]:
    """Return a study whose seeds share a job."""
    options = ("--depths", "1,2", "--seeds", "3", "--no-capacity", "--jobs", str(jobs), "--dir", "out")
    return ("sweep-depth", "logistic", *keys, *options)


CASES = (
    Case("linear regression, loop", train("linear-regression", *POINTS, "execution.path=loop")),
    Case("linear regression, batched", train("linear-regression", *POINTS, "execution.path=batched")),
    Case("linear regression, explicit", train("linear-regression", *POINTS, "execution.path=explicit")),
    Case("linear regression, float64", train("linear-regression", *POINTS, "execution.dtype=float64")),
    Case("logistic, kfo", train("logistic", *POINTS, "inner.transform=kfo", "model.depth=2")),
    Case("logistic, chunk of 2", train("logistic", *POINTS, "execution.chunk=2")),
    Case("sinusoid, fomaml", train("sinusoid", *POINTS, "inner.algorithm=fomaml", "outer.schedule=cosine")),
    Case("sinusoid, constant memory", train("sinusoid", *POINTS, "inner.memory=constant")),
    Case("sinusoid, loop, constant", train("sinusoid", *POINTS, "inner.memory=constant", "execution.path=loop")),
    Case("glyphs, loop", train("glyphs-5way-1shot", *IMAGES, "execution.path=loop")),
    Case("glyphs, batched, anil", train("glyphs-5way-1shot", *IMAGES, "execution.path=batched", ANIL)),
    Case("glyphs, explicit", train("glyphs-5way-1shot", *IMAGES, "inner.transform=meta-sgd")),
    Case("glyphs, constant memory", train("glyphs-5way-1shot", *IMAGES, "inner.memory=constant")),
    Case("omniglot, explicit", train("omniglot-5way-1shot", *IMAGES)),
    Case("logistic, 2 workers", (*train("logistic", *POINTS), "--workers", "2")),
    Case("study, seeds together", study(*POINTS, jobs=2)),
    Case("study of linear regression", ("add-linear", "linear-regression", *POINTS, "--layers", "0,1", "--dir", "out")),
    Case("run killed and resumed", train("linear-regression", *LONG), signal.SIGKILL),
    Case("run interrupted and resumed", train("sinusoid", *LONG, "inner.transform=kfo"), signal.SIGINT),
    Case("workers interrupted and resumed", (*train("logistic", *LONG), "--workers", "2"), signal.SIGINT),
    # One job at a time, and stopped early: the same seeds are together before and after.
    Case("study interrupted and resumed", study(*LONG, jobs=1), signal.SIGINT, study(*LONG, jobs=1)),
)


@dataclass(frozen=True)
class Side:
    """One of the two versions: its source, and the folder it works in."""

    source: Path
    folder: Path

    def run(self, case: Case) -> Path:
        """Run a case and return what it left; raise RuntimeError where it failed."""
        folder = self.folder / re.sub(r"\W+", "-", case.name)
        folder.mkdir(parents=True)
        process = self._start(case.words, folder)
        if case.stopped_by is not None:
            stop_in_the_middle(process, folder / "out", case.stopped_by)
            process.communicate()
            process = self._start(case.resume, folder)
        _, errors = process.communicate()
        if process.returncode != 0:
            raise RuntimeError((errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1])
        return folder / "out"

    def _start(self, words: tuple[str, ...], folder: Path) -> subprocess.Popen[str]:
        changes = {"PYTHONPATH": str(self.source), "XDG_CACHE_HOME": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "mamlcli", *words],
            cwd=folder,
            env=os.environ | changes,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


def stop_in_the_middle(process: subprocess.Popen[str], out: Path, number: signal.Signals) -> None:
    """Send a signal once a run in `out` has done some iterations and is not at its end."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        lines = [path.read_bytes().count(b"\n") for path in out.rglob("metrics.jsonl")]
        if max(lines, default=0) >= 10:
            process.send_signal(number)
            return
        time.sleep(0.002)
    process.kill()
    raise RuntimeError("it ended, or did not begin, before it could be stopped")


# What they left ------------------------------------------------------------------------------------------------


def contents(out: Path) -> dict[str, dict[str, bytes]]:
    """Return all that is compared of a result: by file, then by tensor or as a whole."""
    paths = sorted({path for pattern in COMPARED for path in out.rglob(pattern)})
    return {str(path.relative_to(out)): dict(parts_of(path)) for path in paths}


def parts_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield a file's parts by name, without times."""
    if path.suffix == ".safetensors":
        with safe_open(str(path), framework="np") as archive:
            yield "metadata", json.dumps(archive.metadata(), sort_keys=True).encode()
            for name in archive.keys():  # noqa: SIM118
                value = archive.get_tensor(name)
                yield f"{name} {value.dtype} {value.shape}", value.tobytes()
    elif path.suffix == ".json":
        yield "", json.dumps(without_times(json.loads(path.read_text()))).encode()
    else:
        yield "", re.sub(rb'"\w+_s": [^,}\n]+', b"", path.read_bytes())


def without_times(value: object) -> object:
    """Return a JSON value without the keys that end in `_s`, seconds."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not key.endswith("_s")}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def differences(old: Path, new: Path) -> list[str]:
    """Return how two results differ, a line for each file."""
    before, after = contents(old), contents(new)
    found = [f"{name}: only in the old" for name in sorted(before.keys() - after.keys())]
    found += [f"{name}: only in the new" for name in sorted(after.keys() - before.keys())]
    for name in sorted(before.keys() & after.keys()):
        parts = sorted(before[name].keys() ^ after[name].keys())
        parts += [part for part, data in before[name].items() if after[name].get(part, data) != data]
        if parts:
            sizes = [largest_difference(part, before[name].get(part), after[name].get(part)) for part in parts]
            found.append(f"{name}: {', '.join(filter(None, parts[:3])) or 'its text'}{max(sizes)}")
    return found


def largest_difference(part: str, old: bytes | None, new: bytes | None) -> str:
    """Return how far two tensors are apart, in words; nothing of what is no tensor of floats."""
    if old is None or new is None or " float" not in part:
        return ""
    first, second = (np.frombuffer(data, dtype=part.split(" ")[1]) for data in (old, new))
    return f" (up to {np.abs(first - second).max():.1e})"


# The command ---------------------------------------------------------------------------------------------------


def check_out(revision: str, folder: Path) -> Path:
    """Unpack a commit of this repository into a folder."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder)
    return folder


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def has_omniglot() -> bool:
    return (Path(os.environ.get("MAMLCLI_DATA", "/nonexistent")) / "omniglot.npz").is_file()


def compare(case: Case, sides: tuple[Side, Side]) -> list[str]:
    """Run a case on both sides at the same time and return how they differ, or how they failed."""
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(side.run, case) for side in sides]
    ends = zip(("old", "new"), (future.exception() for future in running), strict=True)
    failures = [f"{name} failed: {error}" for name, error in ends if error is not None]
    return failures or differences(running[0].result(), running[1].result())


def main(revision: str) -> int:
    """Compare every case and print a table of them; return the exit code."""
    num_different = 0
    with tempfile.TemporaryDirectory(prefix="same-bits-") as name:
        folder = Path(name)
        sides = Side(check_out(revision, folder / "source"), folder / "old"), Side(ROOT, folder / "new")
        for case in CASES:
            if "omniglot" in case.name and not has_omniglot():
                say(f"{case.name:34} left out: no omniglot.npz in $MAMLCLI_DATA")
                continue
            started = time.monotonic()
            found = compare(case, sides)
            num_different += bool(found)
            word = "differs" if found else "same"
            say("\n    ".join([f"{case.name:34} {word:8} {time.monotonic() - started:5.1f} s", *found]))
    say(f"{len(CASES) - num_different} cases the same or left out, {num_different} not")
    return 1 if num_different else 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("expected a commit. Run: make same-bits OLD=HEAD")
    sys.exit(main(sys.argv[1]))
