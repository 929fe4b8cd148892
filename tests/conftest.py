"""Fixtures that every test may use: folders of its own, and the program run in this process or another."""

from __future__ import annotations

import signal
import sys

import pytest

from mamlcli.common.processes.signals import ASKED, WARNED
from tests.helpers.running import Finished, Program

# A shell without job control starts background jobs deaf to Ctrl-C, and so would be the tests of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Keep every test away from the user's packs and cache."""
    monkeypatch.setenv("MAMLCLI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def glyphs_cache(tmp_path_factory):
    """A cache folder that holds the glyphs, drawn once for all tests."""
    from mamlcli.tasks.images.glyphs import GLYPHS_VERSION, render_glyphs
    from mamlcli.tasks.images.packs import save_pack

    folder = tmp_path_factory.mktemp("cache")
    save_pack(render_glyphs(), folder / "mamlcli" / f"glyphs-v{GLYPHS_VERSION}-seed0.npz")
    return folder


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


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys, one_thread):
    """Run a command line in this process, in the test's own folder: `cli("train", ...)` -> `Finished`."""
    from mamlcli.__main__ import main

    monkeypatch.chdir(tmp_path)
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
