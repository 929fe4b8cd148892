"""Programs that tests start on a terminal, a pseudo-terminal of 80 columns; what the program's console shows."""

from __future__ import annotations

import io
import os
import pty
import subprocess
from collections.abc import Sequence
from pathlib import Path

import mamlcli
from mamlcli.cli.console import PlainConsole


def shown_on_terminal(command: Sequence[str], folder: Path, **environment: str) -> str:
    """Run a command whose stdout and stderr are one terminal and return what it shows there."""
    above, below = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    variables |= {"TERM": "xterm", "PYTHONPATH": str(Path(mamlcli.__file__).parents[1]), "COLUMNS": "80"}
    process = subprocess.Popen(command, cwd=folder, env=variables | environment, stdout=below, stderr=below)
    os.close(below)
    shown = b""
    while True:
        try:
            read = os.read(above, 1 << 16)
        except OSError:  # as Linux tells that the other side is closed
            break
        if not read:
            break
        shown += read
    os.close(above)
    assert process.wait(timeout=60) == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n")


def as_shown(parts, width=80):
    """Return what the console of the program shows of these parts at a width, without colours."""
    console = PlainConsole(width=width, file=io.StringIO())
    for part in parts if isinstance(parts, list | tuple) else [parts]:
        console.print(part)
    return console.file.getvalue()
