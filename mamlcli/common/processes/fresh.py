"""The command that starts a fresh Python for a part of mamlcli's work; no file of the current folder is imported in it.

The current folder may be a stranger's run, and a file there be named as a module of Python. Python itself puts that
folder first for `-m` and `-c`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import mamlcli

# What the fresh process does first. The path is this process's, less the current folder, unless its own settings
# (PYTHONPATH, a .pth file) name that. The package is taken from where it is here, which may be the current folder.
_START = """\
import sys
own = sys.path[{num_put_first}:]
sys.path[:] = [entry for entry in {path!a} if entry in own or entry not in {here!a}]
from importlib import util
spec = util.spec_from_file_location("mamlcli", {package!a})
sys.modules["mamlcli"] = util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["mamlcli"])
"""


def fresh_python(code: str, *words: str) -> list[str]:
    """Return the command that runs code in a fresh Python with this one's packages, but none of the current folder.

    Args:
        code: lines of Python; they import what they need.
        words: its arguments, from `sys.argv[1]` on.
    """
    flags = [flag for flag, is_set in _FLAGS if is_set]
    # Before 3.11 nothing keeps Python from putting the current folder first, but nothing is imported from it before
    # the first line takes it away.
    has_put_none = "-P" in flags or "-I" in flags
    path = [entry for entry in sys.path if os.path.isabs(entry)]
    start = _START.format(
        num_put_first=0 if has_put_none else 1,
        path=path,
        here=[entry for entry in path if _is_current_folder(entry)],
        package=str(Path(mamlcli.__file__).absolute()),
    )
    return [sys.executable, *flags, "-c", start + code, *words]


def program(*words: str) -> list[str]:
    """Return the command that is `mamlcli WORDS`, as a fresh process of this installation."""
    return fresh_python("sys.argv[0] = 'mamlcli'\nfrom mamlcli.__main__ import main\nmain()", *words)


_FLAGS = (
    ("-P", sys.version_info >= (3, 11)),
    ("-I", sys.flags.isolated),
    ("-E", sys.flags.ignore_environment and not sys.flags.isolated),
    ("-s", sys.flags.no_user_site and not sys.flags.isolated),
)


def _is_current_folder(path: str) -> bool:
    try:
        return os.path.samefile(path, os.curdir)
    except OSError:  # one of them is not there
        return False
