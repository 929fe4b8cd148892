"""A session of a user with a strange name, home, host and environment, who runs every command once, without a network.

`python -m tests.defaults.session UMASK` runs in the folder that it is started in and writes `session.json` there: for
each command its words, exit code, output, and what reached for the network. All that is exported lies in `out/`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mamlcli.bench import cases
from mamlcli.studies.claims.scales import SCALES
from tests.helpers.benches import TINY_CASE, make_bench_quick
from tests.helpers.image_files import class_folders
from tests.helpers.models import use_models_dir
from tests.helpers.reproductions import LINREG, Pool, tiny_scale
from tests.helpers.running import TINY, TINY_IMAGES
from tests.helpers.studies import TINY as TINY_STUDY

_PETS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibex", "jay")

# {here} is a whole path, with the home in it. `data fetch` alone may want the network.
_COMMANDS = """
doctor
models ls
models show glyphs-5way-1shot@1
recipes ls
recipes show logistic
recipes cp logistic {here}/mine.yaml
recipes check {here}/mine.yaml
recipes schema --out {here}/own.schema.json
data fetch omniglot
data import folder {here}/pets --size 12
data ls
data check pets
data show pets --ways 2 --queries 1 --split all --out {out}/episode.png
data export pets --split all --classes 2 --shots 1 --out {out}/classes
train {here}/mine.yaml {tiny} --run-dir {runs}/a
train {here}/mine.yaml {tiny} seed=1 --run-dir {runs}/b
train --resume --run-dir {runs}/b outer.iterations=3
train folder {images} tasks.ways=2 tasks.queries=1 tasks.path={here}/pets --run-dir {runs}/p
train --from {runs}/a {tiny} --run-dir {runs}/c
adapt {runs}/a --tasks 3 --out {out}/adapted
adapt {runs}/p --support out/classes/support --query out/classes/query --out {out}/of.csv --sheet {out}/of.png
layers {runs}/a --tasks 3 --out {out}/layers
runs ls {runs}
runs show {runs}/a
runs compare {runs}/a {runs}/b
runs export {runs}/a --weights {out}/weights-a
runs export {runs}/p --weights {out}/weights-p
recipes verify logistic {tiny} --seeds 2 --dir {runs}/verify
sweep-depth linear-regression {study} --depths 1 --no-capacity --seeds 1 --jobs 1 --dir {runs}/depth
add-linear logistic {study} --layers 1 --seeds 1 --jobs 1 --dir {runs}/layers
add-linear {runs}/layers/cells/1-layer-seed-0 --collapse {out}/small.safetensors
meta-opt logistic {study} --optimizers none --seeds 1 --jobs 1 --dir {runs}/opt
reproduce --scale tiny --dir {out}/reproduction
bench --cases tiny --repeats 1 --device cpu --out {out}/bench
bench --tune logistic outer.tasks=2 --repeats 1 --device cpu
"""

# One run and several are other tables.
_EXPORTS = "\n".join(
    f"runs export {runs} --out {{out}}/{name}.{suffix}"
    for name, runs in (("a", "{runs}/a"), ("p", "{runs}/p"), ("two", "{runs}/a {runs}/p"))
    for suffix in ("csv", "json", "md", "tex")
)


def commands(here: Path) -> list[list[str]]:
    """Return the command lines of the session."""
    words = {"tiny": TINY, "images": TINY_IMAGES, "study": TINY_STUDY}
    keys = {name: " ".join(map(shlex.quote, overrides)) for name, overrides in words.items()}
    text = (_COMMANDS + _EXPORTS).format(here=here, out=here / "out", runs=here / "runs", **keys)
    return [shlex.split(line) for line in text.strip().splitlines()]


def use_from_python(here: Path) -> None:
    """Train, load and adapt from Python."""
    import mamlcli

    made = mamlcli.train("sinusoid", *TINY, "tasks.queries=4", run_dir=here / "runs" / "api")
    mamlcli.load("glyphs-5way-1shot@1")
    points = torch.linspace(-1, 1, 4)[:, None]
    mamlcli.adapt(made, points, points)


def run(words: list[str]) -> dict[str, object]:
    """Run a command line in this process."""
    from mamlcli.__main__ import main

    sys.argv = ["mamlcli", *words]
    return watched(main)


def watched(work: Callable[[], None]) -> dict[str, object]:
    """Do some work; return how it ended, what it printed, and what it asked of the network."""
    attempts = Path(os.environ["ATTEMPTS"])
    attempts.write_text("")
    text = io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            work()
        except SystemExit as ended:
            code = ended.code or 0
    return {"words": sys.argv[1:], "code": code, "text": text.getvalue(), "network": attempts.read_text().splitlines()}


def quickened(patch: pytest.MonkeyPatch, here: Path) -> None:
    """Know a bench and a reproduction that take no time; trained models go to a folder here."""
    patch.setitem(cases.CASES, "tiny", TINY_CASE)
    make_bench_quick(patch)
    patch.setitem(SCALES, "tiny", lambda: tiny_scale(families=(LINREG,)))
    for module in ("sweeps.run", "claims.pilots"):
        patch.setattr(f"mamlcli.studies.{module}.run_jobs", Pool())


def main() -> None:
    """Run the session."""
    os.umask(int(sys.argv[1], 8))
    here = Path.cwd()
    class_folders(here / "pets", _PETS)
    with pytest.MonkeyPatch.context() as patch:
        quickened(patch, here)
        done = [run(words) for words in commands(here)]
        sys.argv = ["mamlcli", "api"]
        done.append(watched(lambda: use_from_python(here)))
        from mamlcli.deploy.shipping import ship_run

        use_models_dir(patch, here / "out" / "models")
        ship_run(here / "runs" / "a", "mine@1")
    (here / "session.json").write_text(json.dumps(done))


if __name__ == "__main__":
    main()
