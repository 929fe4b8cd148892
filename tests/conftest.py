"""Fixtures that every test may use: folders of its own, and the program run in this process or another."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import signal
import sys

import pytest
import typer
from filelock import FileLock

from mamlcli.common.processes.signals import ASKED, WARNED
from mamlcli.tasks.images.glyphs import GLYPHS_VERSION, render_glyphs
from mamlcli.tasks.images.packs import load_pack, save_pack
from tests.helpers.curves import undrawn_curve
from tests.helpers.long_files import in_order
from tests.helpers.running import Finished, Program

# A shell without job control starts background jobs deaf to Ctrl-C, and so would be the tests of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # of nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

IS_SHARED = "PYTEST_XDIST_WORKER" in os.environ


def pytest_configure(config):
    """Let processes of pytest-xdist take files in the order below; it would begin with those of the most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config, items):
    """Begin with the files that take longest where several processes share them, so that all end at about one time."""
    if IS_SHARED:
        in_order(items, config.rootpath)


def pytest_collection_finish(session):
    """Leave what is there now, the tests and all that they import, out of every search for garbage."""
    gc.collect()
    gc.freeze()


_UNUSED = itertools.count()


@pytest.fixture(autouse=True)
def own_folders(request, tmp_path_factory, monkeypatch):
    """Keep every test away from the user's packs and cache; no folder is made for tests that have no use for one."""
    if "tmp_path" in request.fixturenames:
        own = request.getfixturevalue("tmp_path")
    else:
        own = tmp_path_factory.getbasetemp() / f"unused-{next(_UNUSED)}"
    monkeypatch.setenv("MAMLCLI_DATA", str(own / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(own / "cache"))


@pytest.fixture(scope="session", autouse=True)
def undrawn_curves():
    """Leave the curves of runs undrawn: they take most of the time of a tiny run. `drawn_curves` is for the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mamlcli.training.scoring.save_curve", undrawn_curve)
        yield


@pytest.fixture
def drawn_curves(monkeypatch):
    """Draw the curves of runs, for a test that looks at them or at what drawing does."""
    from mamlcli.runs.curve_figure import save_curve

    monkeypatch.setattr("mamlcli.training.scoring.save_curve", save_curve)


def glyphs_drawn_once(tmp_path_factory):
    """Return a cache folder that holds the glyphs, drawn once for all tests, of all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if IS_SHARED else base) / "glyphs-cache"
    pack = folder / "mamlcli" / f"glyphs-v{GLYPHS_VERSION}-seed0.npz"
    with FileLock(f"{folder}.lock"):
        if not pack.exists():
            save_pack(render_glyphs(), pack)
    return folder, pack


@pytest.fixture(scope="session")
def glyphs_cache(tmp_path_factory):
    """A cache folder that holds the glyphs."""
    return glyphs_drawn_once(tmp_path_factory)[0]


@pytest.fixture(scope="session", autouse=True)
def drawn_glyphs(tmp_path_factory):
    """Give a test whose cache is empty the glyphs that are drawn already, where it would draw all of them."""

    def drawn(seed=0, **part):
        return render_glyphs(seed, **part) if seed or part else load_pack(glyphs_drawn_once(tmp_path_factory)[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mamlcli.tasks.images.glyphs.render_glyphs", drawn)
        yield


@pytest.fixture
def with_glyphs(glyphs_cache, monkeypatch):
    """Use the glyphs that are already drawn."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(glyphs_cache))


@pytest.fixture
def one_thread():
    """Compute with one thread, as the reference runs do, and leave torch as it was."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Typer makes the commands anew for each command line, which takes longer than most of them.
_command_of = functools.cache(typer.main.get_command)


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys, one_thread):
    """Run a command line in this process, in the test's own folder: `cli("train", ...)` -> `Finished`."""
    from mamlcli.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(typer.main, "get_command", _command_of)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # typer sets its own
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    handlers = {number: signal.getsignal(number) for number in (*ASKED, *WARNED)}

    def run(*words: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["mamlcli", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return Finished(int(ended.value.code or 0), shown.out, shown.err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def program(tmp_path):
    """Start the program as a process of its own in the test's folder; it does not outlive the test."""
    with Program(tmp_path) as started:
        yield started
