"""These checks look at what the environment says of folders: the home, and variables that name folders."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK, Finding
from mamlcli.common.errors import MamlError
from mamlcli.common.figures import has_matplotlib_folder
from mamlcli.common.files import (
    CACHE_VARIABLE,
    DATA_VARIABLE,
    cache_dir,
    can_be_made,
    data_dir,
    home_dir,
    temporary_dir,
)

# What temporary files are named by, as Python's tempfile reads it.
_TEMPORARY_VARIABLES = ("TMPDIR", "TEMP", "TMP")


def place_findings() -> Iterator[Finding]:
    """Look at the home and at the variables that name folders; of the latter only what is wrong is told."""
    yield home_finding()
    yield from cache_variable_findings()
    yield from data_variable_findings()
    yield from temporary_findings()
    if not has_matplotlib_folder():
        yield _lacking(
            "matplotlib",
            f"no folder that matplotlib can write to; it gets {cache_dir() / 'matplotlib'} or a temporary one",
            "figures may take some seconds longer",
            "Set MPLCONFIGDIR to a folder of yours",
        )


def _lacking(name: str, found: str, effect: str, remedy: str, *, status: str = LACKING) -> Finding:
    return Finding("disk", name, status, found, effect, remedy)


def home_finding() -> Finding:
    """Look at the user's home; without one all works, but what the cache saves may be lost."""
    home, named = home_dir(), os.environ.get("HOME")
    by = "HOME" if named else "the list of users, as HOME is not set"
    effect = f"the cache is {cache_dir()}, which the system may empty"
    remedy = f"Set HOME or {CACHE_VARIABLE} to a folder of yours"
    if home is not None and can_be_made(home):
        there = "" if os.path.isdir(home) else ", which is not there yet"
        return Finding("disk", "home", OK, f"{home}, named by {by}{there}")
    if os.path.isabs(os.environ.get(CACHE_VARIABLE, "")):
        effect = "~ in paths is not understood" if home is None else "programs that keep settings there cannot"
        remedy = "Set HOME to a folder of yours"
    elif home is not None:
        effect = "the cache cannot be written: glyphs are drawn anew by every command"
    if home is None:
        home_is = "not set" if named is None else repr(named) if named else "empty"
        return _lacking("home", f"HOME is {home_is}, and the list of users has none", effect, remedy)
    what = "which cannot be written" if os.path.isdir(home) else "which is no folder and cannot be made"
    return _lacking("home", f"{home}, named by {by}, {what}", effect, remedy)


def cache_variable_findings() -> Iterator[Finding]:
    """Look at XDG_CACHE_HOME."""
    named = os.environ.get(CACHE_VARIABLE, "")
    if named and not os.path.isabs(os.path.expanduser(named)):
        yield _lacking(
            CACHE_VARIABLE,
            f"{named!r}, which is no absolute path",
            f"it is ignored; the cache is {cache_dir()}",
            f"Set {CACHE_VARIABLE} to a path from / on, or unset it",
        )


def data_variable_findings() -> Iterator[Finding]:
    """Look at MAMLCLI_DATA."""
    named = os.environ.get(DATA_VARIABLE, "")
    try:
        folder = data_dir()
    except MamlError as error:
        found, remedy = f"expected {error.expected}, got {error.got}", error.next_step or "Set it to a folder of yours"
        yield _lacking(DATA_VARIABLE, found, "all commands that read packs fail", remedy, status=BROKEN)
        return
    if named and not folder.is_absolute():
        yield _lacking(
            DATA_VARIABLE,
            f"{named!r}, which is meant from the current folder",
            "commands in another folder find other packs, or none",
            f"export {DATA_VARIABLE}={shlex.quote(os.path.abspath(folder))}",
        )


def temporary_findings() -> Iterator[Finding]:
    """Look whether TMPDIR can be used, and whether there is any place for temporary files."""
    used, remedy = temporary_dir(), "Set TMPDIR to a folder of yours"
    if used is None:
        effect = "--workers and torch.compile do not work"
        yield _lacking("temporary", "no folder for temporary files can be written", effect, remedy)
        return
    named = next(((name, os.environ[name]) for name in _TEMPORARY_VARIABLES if os.environ.get(name)), None)
    if named and Path(named[1]).absolute() != used.absolute():
        effect = f"temporary files go to {used}"
        yield _lacking(named[0], f"{named[1]}, which cannot be written", effect, f"Set {named[0]} to a folder of yours")
