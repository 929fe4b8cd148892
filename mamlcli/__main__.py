"""Entry point: runs the command line and turns errors into messages and exit codes, here and nowhere else.

0 done; 1 the user's input or environment; 2 usage (from typer); 3 a bug, with its traceback in a log;
130 interrupted.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import traceback
from pathlib import Path
from types import FrameType

from mamlcli.cli import console
from mamlcli.errors import Interrupted, MamlError

EXIT_USER, EXIT_BUG, EXIT_INTERRUPTED = 1, 3, 130


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    from mamlcli.cli.app import app

    try:
        app()
    except MamlError as error:
        console.error(str(error))
        sys.exit(EXIT_USER)
    except Interrupted as error:
        console.note(str(error))
        sys.exit(EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        console.note("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has left (as `head` does); there is nobody to tell.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        console.error(f"{type(error).__name__}: {error}. This is a bug in mamlcli; its traceback is in {_log()}")
        sys.exit(EXIT_BUG)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _log() -> Path:
    """Write the traceback at hand to a file of its own and return its path."""
    with tempfile.NamedTemporaryFile("w", prefix="mamlcli-", suffix=".log", delete=False) as stream:
        stream.write(f"{' '.join(sys.argv)}\n{traceback.format_exc()}")
    return Path(stream.name)


if __name__ == "__main__":
    main()
