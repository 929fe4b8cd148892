"""A user with a strange name runs every command once: no network, modes by the umask, nothing private goes out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
import typer

import mamlcli
from mamlcli.cli.app import app
from mamlcli.runs.models import models_dir

ROOT = Path(mamlcli.__file__).parents[1]
MARK = "zqxmark"  # is in the names of home, user and host, and in the environment
UMASK = 0o002  # with which 0600 and 0644 are both wrong

# What goes to others: all below out/, but what only says where a run and its data lie.
LOCAL = ("manifest.json", "study.json", "evaluation.json", "plan.json")
KINDS = {".csv", ".json", ".md", ".tex", ".html", ".png", ".svg", ".npz", ".npy", ".safetensors"}
# With these, the verdict or an offer of more is the exit code.
NOT_ZERO = {"data fetch", "recipes verify"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The home of the user after the session; `project/session.json` tells of it."""
    home = tmp_path_factory.mktemp(f"home-{MARK}")
    (home / "project").mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "USER": f"{MARK}-user",
        "LOGNAME": f"{MARK}-user",
        "SESSION_HOST": f"{MARK}-host",
        "HOSTNAME": f"{MARK}-host",
        "SESSION_TOKEN": f"{MARK}-secret",
        "ATTEMPTS": str(home.with_name("attempts")),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent / "site")]),
    }
    words = [sys.executable, "-m", "tests.defaults.session", f"{UMASK:o}"]
    ended = subprocess.run(words, cwd=home / "project", env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return home


@pytest.fixture(scope="module")
def session(home):
    return json.loads((home / "project" / "session.json").read_text())


def names_of(group, above=()):
    """Yield the name of every command, as `runs export`."""
    for name, below in group.commands.items():
        yield from names_of(below, (*above, name)) if hasattr(below, "commands") else [" ".join((*above, name))]


def name_of(done, names):
    return next(name for name in names if done["words"][: len(name.split())] == name.split())


def test_every_command_runs_without_a_network_and_fetch_alone_asks_for_it(session):
    names = [*names_of(typer.main.get_command(app)), "api"]
    assert {name_of(done, names) for done in session} == set(names)
    for done in session:
        name = name_of(done, names)
        assert (done["code"] != 0) == (name in NOT_ZERO), done
        if name == "data fetch":
            assert "https://" in done["network"][0]
            assert "expected a network connection to the download" in done["text"]
        else:
            assert done["network"] == [], done


def test_the_umask_decides_the_mode_of_every_file_and_folder(home):
    paths = [path for path in home.rglob("*") if path not in (home / "project", home / "project" / "pets")]
    assert len(paths) > 100
    wrong = {
        str(path.relative_to(home)): oct(mode)
        for path in paths
        if (mode := path.lstat().st_mode & 0o777) != (0o777 if path.is_dir() else 0o666) & ~UMASK
    }
    assert wrong == {}


def contents(data: bytes, name: str):
    """Yield (name, bytes) of a file and of what is packed in it: members of archives, compressed text of pictures."""
    yield name, data
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield from contents(archive.read(member), f"{name}/{member}")
    if data.startswith(b"\x89PNG"):
        start = 8
        while start < len(data):
            length, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
            if kind in (b"zTXt", b"iTXt"):
                yield (
                    f"{name}/{kind.decode()}",
                    zlib.decompressobj().decompress(
                        data[start + 8 : start + 8 + length].partition(b"\0")[2].lstrip(b"\0\1")
                    ),
                )
            start += 12 + length


def private_in(data: bytes, name: str) -> list[str]:
    """Return where the mark is in a file, in any of the ways in which text is written."""
    marks = [MARK.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-32-le")]
    return [where for where, content in contents(data, name) if any(mark in content.lower() for mark in marks)]


def test_nothing_that_is_exported_names_home_user_host_or_environment(home):
    out = home / "project" / "out"
    runs = home / "project" / "runs"
    files = [path for path in out.rglob("*") if path.is_file()]
    exported = [path for path in files if path.name not in LOCAL or path.is_relative_to(out / "models")]
    exported += [*(runs.rglob("*.png")), *(runs.rglob("*.svg")), *(runs.rglob("*.csv"))]
    exported += [*(runs.rglob("*.safetensors")), *(home / ".cache").rglob("*.npz")]
    assert {path.suffix for path in exported} >= KINDS
    found = [where for path in exported for where in private_in(path.read_bytes(), str(path.relative_to(home)))]
    assert found == []


def test_a_private_word_would_be_found(home, tmp_path):
    assert private_in((home / "project" / "runs" / "a" / "manifest.json").read_bytes(), "manifest")
    with zipfile.ZipFile(tmp_path / "pack.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("source.npy", f"x/home-{MARK}/y".encode("utf-32-le"))
    assert private_in((tmp_path / "pack.npz").read_bytes(), "pack") == ["pack/source.npy"]


def test_the_models_of_the_package_name_no_home():
    for path in models_dir().rglob("*"):
        if path.is_file():
            assert b"/home/" not in path.read_bytes(), path
            assert b"/root/" not in path.read_bytes(), path
