"""A process that has joined others ends with its code, after what is registered, and without Python's last steps."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mamlcli.common.processes.ending import Ending

# A thread that is not a daemon is waited for by Python before `atexit`; a finalizer of a module comes after it.
PROGRAM = """
import atexit, sys
from mamlcli.common.processes.ending import ENDING
ENDING.prepare()
atexit.register(print, "a library's end")
class Last:
    def __del__(self):
        sys.__stderr__.write("the last steps")
        sys.__stderr__.flush()
last = Last()
ENDING.is_at_once = {is_at_once}
print("printed", end=" ")
try:
    sys.exit({code})
except SystemExit as ended:
    ENDING.note(ended)
    raise
"""


@pytest.mark.parametrize(("code", "expected"), [("", 0), ("None", 0), ("0", 0), ("75", 75), ("'words'", 1)])
@pytest.mark.parametrize("is_at_once", [True, False])
def test_code_and_output_are_those_of_an_ordinary_end(code, expected, is_at_once):
    program = PROGRAM.format(code=code, is_at_once=is_at_once)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (expected, "printed a library's end\n")
    assert ("the last steps" in ended.stderr) is not is_at_once


def test_closed_output_is_no_error_at_the_end(monkeypatch, tmp_path):
    left = []
    closed = (tmp_path / "file").open("w", encoding="utf-8")
    closed.close()
    monkeypatch.setattr("sys.stdout", closed)
    monkeypatch.setattr("os._exit", left.append)
    Ending(code=4, is_at_once=True).end()
    assert left == [4]
