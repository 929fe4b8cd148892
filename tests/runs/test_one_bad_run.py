"""One run with an odd value in any field of its files hides no other, and never ends a command in a traceback."""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.common.files import json_text
from mamlcli.runs.catalogue import find_runs
from mamlcli.runs.comparison import compare_runs
from mamlcli.runs.comparison_tables import comparison_parts
from mamlcli.runs.entry import read_run
from mamlcli.runs.exports import SUFFIXES, export_runs
from mamlcli.runs.tables import problems_text, run_parts, run_report, run_row, runs_table
from tests.fuzz.bounds import IS_SOAK
from tests.helpers.run_folders import shown

ODD = (
    *(None, True, 0, -1, 3, 0.5, 10**400, 10**20, 1e308, float("nan"), float("inf")),
    *("", "x", "\ud800", "\x1b[31mred\n", [], [1], [None], ["a"], [[[]]], {}, {"a": 1}, {"mean": 1}),
    *("2026-01-01T00:00:00", "0001-01-01T00:00:00+23:59"),
)
NUM_TRIES = 1000 if IS_SOAK else 20  # of each file; `make soak` lets every key meet many odd values


def places_in(value, place=()):
    """Yield where the values of a JSON file stand, of long lists the first two."""
    yield place
    below = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in below:
        yield from places_in(inner, (*place, key))


def with_odd(value, place, odd):
    if not place:
        return odd
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = odd
    return copy


def look_at(base):
    """List all runs of a folder, and show, compare and export the one called bad; return what a terminal shows."""
    runs = find_runs(base)
    text = [shown([runs_table(runs), *filter(None, [problems_text(runs)])], 200)]
    json_text([run_row(run) for run in runs])
    assert [run.status for run in runs if run.name == "one"] == ["done"]
    bad, good = read_run(base / "bad"), read_run(base / "one")
    text.append(shown(run_parts(bad), 200))
    json_text(run_report(bad))
    for made in (
        lambda: shown(comparison_parts(compare_runs([bad, good], allow_unpaired=True)), 200),
        *(lambda form=form: export_runs([bad, good], form) for form in SUFFIXES),
        lambda: export_runs([bad], "csv"),
    ):
        try:
            made().encode()
        except MamlError as error:
            text.append(str(error))
    assert "\x1b" not in "".join(text)
    return bad


@pytest.mark.parametrize("name", ["manifest.json", "evaluation.json"])
def test_odd_values_hide_no_other_run(trained, tmp_path, name):
    draw = random.Random(None if IS_SOAK else name)
    content = json.loads((trained / "one" / name).read_text())
    places = list(places_in(content))
    shutil.copytree(trained / "one", tmp_path / "one")
    shutil.copytree(trained / "one", tmp_path / "bad")
    for _ in range(NUM_TRIES):
        place, odd = draw.choice(places), draw.choice(ODD)
        (tmp_path / "bad" / name).write_text(json.dumps(with_odd(content, place, odd)))
        bad = look_at(tmp_path)
        assert bad.status != "damaged" or name in bad.reason, (place, odd)


METRICS = {
    "a line of brackets": "[" * 30_000 + "\n",
    "an integer of 400 digits": '{"kind": "step", "iteration": 3, "outer_loss": ' + "9" * 400 + "}\n",
    "an odd kind": '{"kind": [], "iteration": 3}\n',
    "an odd iteration": '{"kind": "step", "iteration": true, "outer_loss": 1}\n',
    "a huge iteration": '{"kind": "step", "iteration": ' + "9" * 400 + "}\n",
    "an odd loss": '{"kind": "validation", "iteration": 3, "loss": "x", "accuracy": {}}\n',
    "no text": "\udcff\udcfe\x00\n",
}


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("status", ["done", "running"])
def test_odd_lines_of_metrics_hide_no_other_run(trained, tmp_path, kind, status):
    for name in ("one", "bad"):
        shutil.copytree(trained / "one", tmp_path / name)
    manifest = json.loads((trained / "one" / "manifest.json").read_text())
    (tmp_path / "bad" / "manifest.json").write_text(json.dumps({**manifest, "status": status}))
    with (tmp_path / "bad" / "metrics.jsonl").open("a", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(METRICS[kind])
    assert look_at(tmp_path).status == ("done" if status == "done" else "cut")


@pytest.mark.parametrize("name", ["manifest.json", "evaluation.json", "metrics.jsonl", "tasks.csv", "recipe.yaml"])
@pytest.mark.parametrize("what", ["a folder", "nothing in it", "no text", "a pipe"])
def test_what_is_no_file_hides_no_other_run(trained, tmp_path, name, what):
    for folder in ("one", "bad"):
        shutil.copytree(trained / "one", tmp_path / folder)
    path = tmp_path / "bad" / name
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what == "a pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes here")
        os.mkfifo(path)
    else:
        path.write_bytes(b"" if what == "nothing in it" else b"\xff\xfe\x00\xd8")
    bad = look_at(tmp_path)
    assert (bad.status == "damaged") == (name in ("manifest.json", "evaluation.json", "recipe.yaml"))
    assert bad.reason is None or name in bad.reason
