"""Standard output takes any text in any encoding, and needs not be there."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mamlcli
from mamlcli.cli import console
from mamlcli.cli.streams import can_write, dropping, is_unicode, telling
from mamlcli.common.errors import MamlError

SHOW = """
from rich.table import Table
from mamlcli.cli import console
table = Table("a")
table.add_row("97.4 ± 0.2 ▁▇ fünf 照片 \\udcfc")
console.choose_json(JSON)
console.show({"fünf": "照片 \\U0001f600 \\udcfc"}, lambda report: [table, console.Verbatim("fünf")])
console.note("照片 \\udcfc")
"""


def show(environment, is_json=False, options="", redirected=""):
    """Show a table, a text and a note in a process of its own; return the exit code and both outputs."""
    code = SHOW.replace("JSON", str(is_json)).encode("ascii", "backslashreplace").decode()
    variables = os.environ | {"PYTHONPATH": str(Path(mamlcli.__file__).parents[1])} | environment
    words = ["sh", "-c", f'exec "$0" {options} -c "$1" {redirected}', sys.executable, code]
    ended = subprocess.run(words, env=variables, capture_output=True, timeout=120)
    return ended.returncode, ended.stdout, ended.stderr


OUTPUTS = [
    ({"PYTHONIOENCODING": "ascii"}, ""),
    ({"PYTHONIOENCODING": "latin-1"}, ""),
    ({"PYTHONIOENCODING": "cp1252"}, ""),
    ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, "-X utf8=0"),
]


@pytest.mark.parametrize(("environment", "options"), OUTPUTS)
def test_output_of_any_encoding_shows_everything(environment, options):
    code, out, err = show(environment, options=options)
    assert code == 0, err
    encoding = environment.get("PYTHONIOENCODING", "ascii")
    shown = out.decode(encoding)
    if encoding == "ascii":
        assert "97.4 +- 0.2 17 f\\xfcnf \\u7167\\u7247 \\udcfc" in shown
        assert shown.endswith("f\\xfcnf\n")
    else:
        assert "97.4 ± 0.2 17 fünf \\u7167\\u7247 \\udcfc" in shown
        assert shown.endswith("fünf\n")
    assert b"\\u7167\\u7247 \\udcfc\n" in err
    assert (b"PYTHONUTF8=1" in err) == (encoding == "ascii")


@pytest.mark.parametrize(("environment", "options"), [*OUTPUTS, ({"PYTHONIOENCODING": "utf-8"}, "")])
def test_json_in_any_encoding_is_the_same_document(environment, options):
    code, out, err = show(environment, is_json=True, options=options)
    assert code == 0, err
    assert json.loads(out.decode(environment.get("PYTHONIOENCODING", "ascii"))) == {"fünf": "照片 \U0001f600 \udcfc"}


@pytest.mark.skipif(os.name == "nt", reason="Windows closes no descriptors")
@pytest.mark.parametrize("redirected", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_output_that_is_closed_gets_nothing(redirected):
    code, out, err = show({"PYTHONIOENCODING": "utf-8"}, redirected=redirected)
    assert code == 0
    assert bool(out) == (">&-" not in redirected.split())
    assert bool(err) == ("2>&-" not in redirected)


@pytest.mark.skipif(os.name == "nt", reason="Windows closes no descriptors")
def test_file_that_is_opened_later_does_not_get_what_goes_to_a_closed_output(tmp_path):
    path = str(tmp_path / "a")
    code = f"from mamlcli.cli import console; file = open({path!r}, 'w'); console.result('x'); print(file.fileno())"
    variables = os.environ | {"PYTHONPATH": str(Path(mamlcli.__file__).parents[1])}
    subprocess.run(["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code], env=variables, check=True, timeout=120)
    assert (tmp_path / "a").read_text(encoding="utf-8") == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_without_room_is_told_in_words():
    environment = os.environ | {"PYTHONPATH": str(Path(mamlcli.__file__).parents[1])}
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "mamlcli", "recipes", "show", "sinusoid"]
        ended = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr == (
        b"error: standard output: expected a place that takes the result, got no space left on device. What a run has "
        b"done is kept in its folder. Free some of the disk of the output, or send it elsewhere, and run it again.\n"
    )


def test_encodings_are_told_by_what_they_lack():
    assert [is_unicode(io.TextIOWrapper(io.BytesIO(), encoding=name)) for name in ("utf-8", "UTF_16", "ascii")] == [
        True,
        True,
        False,
    ]
    assert is_unicode(io.StringIO())
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    assert (can_write("fünf", latin), can_write("照", latin)) == (True, False)


def test_text_that_fits_is_shown_without_a_warning(capsys):
    console.result_text("fünf")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("fünf\n", "")


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode on Windows")
def test_names_are_read_and_written_where_the_locale_knows_ascii_alone(tmp_path):
    (tmp_path / "fünf.yaml").write_text("# fünf\ntasks: {source: folder, path: zwölf}\nmodel: {kind: cnn}\n", "utf-8")
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(Path(mamlcli.__file__).parents[1])}
    command = [sys.executable, "-X", "utf8=0", "-m", "mamlcli", "recipes", "show", "fünf.yaml", "--resolved"]
    ended = subprocess.run(command, cwd=tmp_path, env=os.environ | environment, capture_output=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert b"  path: zw\\xf6lf\n" in ended.stdout
    assert b"characters that ascii lacks are shown as escapes" in ended.stderr.lower()


class Failing(io.StringIO):
    """A stream under which the disk is full, or whose terminal was closed."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text=""):
        raise self.error

    flush = write


FAULTS = [
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EFBIG, "File too large"),
    ValueError("I/O operation on closed file."),
]


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_what_is_said_beside_the_work_never_ends_it(monkeypatch, error):
    monkeypatch.setattr(sys, "stderr", Failing(error))
    console.note("a line")
    console.warn("a line")
    console.error("a line")
    with console.progress_bar() as bar:
        bar.update(bar.add_task("x", total=2), advance=1)


@pytest.mark.parametrize("error", FAULTS[1:4], ids=repr)
def test_result_that_cannot_be_written_is_an_error(monkeypatch, error):
    monkeypatch.setattr(sys, "stdout", Failing(error))
    for show in (console.result, console.result_text):
        with pytest.raises(MamlError, match="standard output: expected a place that takes the result"):
            show("a table")


def test_reader_that_has_left_is_told_by_the_same_error_for_tables_and_texts(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Failing(FAULTS[0]))
    for show in (console.result, console.result_text):
        with pytest.raises(BrokenPipeError):
            show("a table")


def test_guarded_streams_are_otherwise_what_they_guard():
    stream = io.StringIO()
    assert dropping(stream).write("ab") == 2
    telling(stream).write("c")
    assert (stream.getvalue(), telling(stream).closed) == ("abc", False)


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of this kind")
def test_result_for_a_terminal_that_was_closed_is_as_for_a_reader_that_has_left():
    import pty

    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        os.close(ours)
        with pytest.raises(BrokenPipeError):
            telling(stream).write("x\n" * 10000)
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for what is still in its buffer
