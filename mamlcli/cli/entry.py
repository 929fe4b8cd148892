"""Runs the command line and turns errors into messages and exit codes, here and nowhere else.

0 done; 1 the user's input or environment; 2 usage (from typer); 3 a bug, with its traceback and the versions in a log;
130 interrupted, by Ctrl-C, SIGTERM, a closed terminal (SIGHUP) or a batch system's warning (SIGUSR1, SIGUSR2, SIGXCPU).
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import traceback

from mamlcli.cli import console
from mamlcli.cli.streams import give_up, read_names_as_utf8
from mamlcli.common.commands import command
from mamlcli.common.disk import environment_error
from mamlcli.common.errors import Interrupted, MamlError, RecipeError, is_missing_on_mps, is_out_of_memory
from mamlcli.common.machine import versions
from mamlcli.common.words import first_line

EXIT_USER, EXIT_BUG, EXIT_INTERRUPTED = 1, 3, 130


_NO_MPS = "Set PYTORCH_ENABLE_MPS_FALLBACK=1, which computes what is missing on the CPU, or use --device cpu."
_SMALLER = "Lower execution.chunk (1 is the least), model.width, model.depth or inner.steps, or use another --device."


def run() -> None:
    """Run the command line; it ends with SystemExit."""
    read_names_as_utf8()
    try:
        _check_folder()
        refuse_keys_as_options(sys.argv[1:])
        from mamlcli.cli.app import app

        app(prog_name="mamlcli")  # also where it is started as python -m mamlcli, so that completion finds it
    except MamlError as error:
        console.error(f"{error}{_command_that_works(error)}")
        sys.exit(EXIT_USER)
    except Interrupted as error:
        console.note(str(error))
        sys.exit(EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        console.note("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except (BrokenPipeError, SystemExit) as ended:
        # The reader of our output has left (as `head` does); there is nobody to tell. Rich and typer see it first.
        if isinstance(ended, SystemExit) and not isinstance(ended.__context__, BrokenPipeError):
            raise
        give_up()
        sys.exit(0)
    except Exception as error:
        if is_out_of_memory(error):
            console.error(f"memory: expected enough for this recipe, got {first_line(error)}. {_SMALLER}")
            sys.exit(EXIT_USER)
        if (told := environment_error(error, next_step="Then run it again")) is not None:
            console.error(str(told))
            sys.exit(EXIT_USER)
        if is_missing_on_mps(error):
            console.error(
                f"--device: expected one that can compute all of this, got mps: {first_line(error)}. {_NO_MPS}"
            )
            sys.exit(EXIT_USER)
        what = f"{type(error).__name__}: {first_line(error)}"
        console.error(f"{what}. This is a bug in mamlcli; its traceback is {_log()}")
        sys.exit(EXIT_BUG)


def refuse_keys_as_options(words: list[str]) -> None:
    """Raise RecipeError where a key of recipes is given as an option, as in --inner.lr=1; it says what to type."""
    if any(re.match(r"--?(\w+\.|seed\b|logging\b)", word) for word in words):
        from mamlcli.recipe.habits import habit_among_options

        if answer := habit_among_options(words):
            raise RecipeError([f"command line: {answer}"])


def _check_folder() -> None:
    # Before torch is loaded: its libraries end the process where the current folder is not there.
    try:
        os.getcwd()
    except OSError as error:
        next_step = "Change to one that is there: cd"
        raise MamlError(
            "the current folder", expected="a folder that is there", got="a removed one", next_step=next_step
        ) from error


def _command_that_works(error: MamlError) -> str:
    """Return the command as it was typed with the changes that an error names; nothing where it names none."""
    if not error.changes:
        return ""
    keys = tuple(f"{change.partition('=')[0]}=" for change in error.changes)
    typed = [word for word in sys.argv[1:] if not word.startswith(keys)]
    return f" Run: {command(*typed, *error.changes)}"


def _report() -> str:
    """Return what a bug report needs: command, versions, traceback."""
    lines = (f"{name} {version}" for name, version in versions().items())
    return "\n".join((" ".join(sys.argv), "", *lines, "", traceback.format_exc()))


def _log() -> str:
    """Write what a bug report needs to a file of its own and return where it is."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="mamlcli-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as stream:
            stream.write(_report())
        return f"in {stream.name}"
    except OSError:  # there is no place for temporary files
        return f"here:\n{_report()}"
