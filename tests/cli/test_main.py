"""The entry point: errors become messages and exit codes, here and nowhere else."""

from __future__ import annotations

import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import pytest

import mamlcli
from mamlcli.common.errors import DataError, Interrupted
from tests.helpers.image_files import class_folders
from tests.helpers.running import end_of


@pytest.fixture
def failing(cli, monkeypatch, tmp_path):
    """Run a command whose work raises."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(error):
        def work(*_args):
            raise error

        monkeypatch.setattr("mamlcli.recipe.files.shipped_recipes", work)
        return cli("recipes", "ls")

    return run


def test_version_is_shown(cli):
    ended = cli("--version")
    assert (ended.code, ended.out) == (0, f"mamlcli {mamlcli.__version__}\n")


@pytest.mark.parametrize(
    "words", [["--help"], ["train", "--help"], ["adapt", "--help"], ["recipes", "--help"], ["data", "--help"]]
)
def test_help_is_a_result(cli, words):
    ended = cli(*words)
    assert ended.code == 0
    assert "Usage" in ended.out
    assert ended.err == ""


@pytest.mark.parametrize(
    "words",
    [["trian"], ["train", "--nothing"], ["adapt"], ["recipes", "show"], ["recipes", "nothing"]],
    ids=" ".join,
)
def test_usage_errors_have_their_code(cli, words):
    ended = cli(*words)
    assert ended.code == 2
    assert ended.out == ""
    assert "--help" in ended.err


def test_users_mistake_is_one_line(failing):
    ended = failing(DataError("x.npz", expected="a pack", got="[red]none[/red]", next_step="Run: mamlcli data ls"))
    assert ended.code == 1
    # Square brackets are text, not markup.
    assert ended.err == "error: x.npz: expected a pack, got [red]none[/red]. Run: mamlcli data ls\n"


def test_bug_is_one_line_with_the_path_of_its_traceback(failing):
    ended = failing(ZeroDivisionError("no such luck\nframe #0\nframe #1"))
    assert ended.code == 3
    (line,) = ended.errors
    assert line.startswith("ZeroDivisionError: no such luck. This is a bug in mamlcli; its traceback is in ")
    log = Path(line.rpartition(" ")[2]).read_text()
    assert log.startswith("mamlcli recipes ls\n")
    assert "Traceback" in log
    assert "ZeroDivisionError: no such luck" in log
    for name in ("mamlcli", "torch"):
        assert f"\n{name} {metadata.version(name)}\n" in log
    assert f"\npython {platform.python_version()}\nplatform {platform.platform()}\n" in log


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB\nx")])
def test_too_little_memory_is_no_bug(failing, error):
    ended = failing(error)
    assert ended.code == 1
    (line,) = ended.errors
    assert line.startswith("memory: expected enough for this recipe, got ")
    assert "execution.chunk" in line


def test_interruption_says_how_to_go_on(failing):
    ended = failing(Interrupted("interrupted; continue: mamlcli train --resume"))
    assert ended.code == 130
    assert ended.err == "interrupted; continue: mamlcli train --resume\n"


def test_keyboard_interrupt_is_no_traceback(failing):
    ended = failing(KeyboardInterrupt())
    assert ended.code == 130
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_torch_is_imported_ends_the_program_quietly(tmp_path, number):
    # An exception there would abort the process with a page of C++ frames.
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "import sys, time\nprint('importing', flush=True)\ntime.sleep(30)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(mamlcli.__file__).parents[1]}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mamlcli", "train", "linear-regression"],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell that starts the tests in the background has SIGINT ignored, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    ended = end_of(process)
    assert (ended.code, ended.out, ended.err) == (130, "", "interrupted\n")


# Each replaces the command line, so that nothing slow is loaded.
MOMENTS = {
    "while a slow module is loaded": "",
    "in a finalizer, whose exceptions Python shows and forgets": """
        class Last:
            def __del__(self): signal.raise_signal(signal.SIGINT)
        Last()
        time.sleep(60)
    """,
    "at the end of Python": """
        atexit.register(lambda: signal.raise_signal(signal.SIGINT))
        sys.exit(0)
    """,
    "for the second time, where the first is not heard": """
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            time.sleep(0.2)
            signal.raise_signal(signal.SIGINT)
            time.sleep(60)
    """,
    "before a command is read": "        signal.raise_signal(signal.SIGINT)",
}
MOMENT = """
import atexit, signal, sys, time, types
signal.signal(signal.SIGINT, signal.default_int_handler)
from mamlcli.__main__ import main
class Entry:
    def run():
{body}
sys.modules["mamlcli.cli.entry"] = Entry
main()
"""
SLOW = "import sys, signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(60)\n"


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_at_any_moment_is_one_line(tmp_path, moment):
    body, root = MOMENTS[moment], Path(mamlcli.__file__).parents[1]
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text(SLOW)
    code = MOMENT.format(body=body) if body else "from mamlcli.__main__ import main\nmain()"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    if not body:
        code = f"import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{code}"
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    "words",
    [["recipes", "show", "logistic"], ["recipes", "ls"], ["train", "--help"]],
    ids=["text", "table", "help"],
)
def test_reader_that_leaves_is_neither_a_traceback_nor_a_mistake(tmp_path, words):
    command = [sys.executable, "-m", "mamlcli", *words]
    environment = os.environ | {"PYTHONPATH": str(Path(mamlcli.__file__).parents[1])}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.stderr.read() == ""
    assert process.returncode == 0
    process.stderr.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a folder that is in use")
def test_current_folder_that_was_removed_is_one_line(failing, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ended = failing(ZeroDivisionError("not reached"))
    monkeypatch.chdir(tmp_path)
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("error: the current folder: expected a folder that is there, got a removed one.")


MPS = "The operator 'aten::x' is not currently implemented for the MPS device. If you want this op to be added, ..."


def test_operation_that_a_mac_has_not_is_no_bug_and_says_what_to_set(failing):
    ended = failing(NotImplementedError(MPS))
    assert ended.code == 1
    assert "got mps: The operator 'aten::x' is not currently implemented" in ended.errors[0]
    assert "Set PYTORCH_ENABLE_MPS_FALLBACK=1" in ended.errors[0]


def test_bug_without_a_place_for_temporary_files_is_told_at_once(failing, monkeypatch):
    def nowhere(*args, **options):
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", nowhere)
    ended = failing(ZeroDivisionError("no such luck"))
    assert ended.code == 3
    assert "its traceback is here:" in ended.err
    assert "ZeroDivisionError: no such luck" in ended.err


@pytest.mark.parametrize(
    "words", [["--inner.lr=1"], ["sinusoid", "--inner.lr", "1"], ["+inner.lr=1"], ["inner.lr", "1"]]
)
def test_key_in_the_form_of_another_program_is_answered_with_ours(cli, words):
    ended = cli("train", *words)
    assert ended.code == 1
    (line,) = ended.errors
    assert line.startswith("command line: expected key.path=value, got ")
    assert line.endswith(". Type: inner.lr=1")


def test_recipe_in_utf_16_is_shown_as_text(cli, tmp_path):
    text = "# fünf\ntasks: {source: logistic}\nmodel: {kind: mlp}\n"
    (tmp_path / "r.yaml").write_text(text, encoding="utf-16")
    assert cli("recipes", "show", "r.yaml").out == text


def test_command_that_works_is_named_as_it_was_typed_and_works_when_it_is_pasted(cli, tmp_path):
    class_folders(tmp_path / "my photos", ["cats", "dogs", "birds"], num_images=6)
    sizes = ("tasks.image_size=8", "model.depth=1", "model.width=2", "evaluation.tasks=2", "outer.tasks=2")
    failed = cli("train", "folder", "tasks.path=my photos", "tasks.ways=4", *sizes, "--dry-run")
    assert failed.code == 1
    [command] = re.findall(r"Run: mamlcli (.*)\.?$", failed.errors[0])
    assert "tasks.ways=4" not in command
    assert command.startswith("train folder 'tasks.path=my photos'")
    done = cli(*shlex.split(command))
    assert (done.code, "tasks.ways=3" in command) == (0, True)
    [adapt] = re.findall(r"without training: mamlcli (.*) \(the last word", failed.errors[0])
    assert cli(*shlex.split(adapt)).code == 0
