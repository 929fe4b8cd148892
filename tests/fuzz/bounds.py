"""What is promised of every input, and how many are tried."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import sys
import time
from collections.abc import Iterator
from unittest import mock

from hypothesis import HealthCheck, settings

from mamlcli.common.errors import MamlError

IS_SOAK = os.environ.get("MAMLCLI_FUZZ") == "soak"
_MOST_SECONDS = 5.0  # of the processor, so that another process on the machine does not count
_MOST_BYTES = 2**30


def tries(suite: int, soak: int) -> settings:
    """Return how many inputs are tried, in the suite and in the soak."""
    return settings(
        max_examples=soak if IS_SOAK else suite,
        derandomize=not IS_SOAK,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Allow a block to raise a MamlError whose words can be shown, and to take a few seconds and megabytes."""
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    except MamlError as error:
        check_shown(str(error))
    took = time.process_time() - started
    assert took < _MOST_SECONDS, f"{took:.1f} s"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < _MOST_BYTES, f"{grown:,} bytes"


def check_shown(text: str) -> None:
    """Check that a text would not move a cursor, colour a terminal or fill it, and can be encoded."""
    wrong = {char for char in text if char not in "\n\t" and (ord(char) < 32 or 127 <= ord(char) < 160)}
    assert not wrong, f"{wrong} in {text[:300]!r}"
    assert len(text) < 1_000_000
    text.encode()


def run(*words: object) -> tuple[int, str, str]:
    """Run a command line in this process within the bounds; return its exit code, stdout and stderr."""
    from mamlcli.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    code = 0
    typed = mock.patch.object(sys, "argv", ["mamlcli", *map(str, words)])
    with bounded(), typed, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    assert code in (0, 1, 2), f"{words}: {code}: {err.getvalue()[-1000:]}"
    assert "Traceback" not in err.getvalue()
    for stream in (out, err):
        check_shown(stream.getvalue())
    return code, out.getvalue(), err.getvalue()
