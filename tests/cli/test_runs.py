"""`mamlcli runs`, run as a user would."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from importlib import metadata

import pytest

from mamlcli.runs.folder import RunDirectory
from tests.helpers.running import train_tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    base = tmp_path_factory.mktemp("trained")
    train_tiny(base / "runs" / "one", "logistic")
    train_tiny(base / "runs" / "two", "logistic", "model.depth=2")
    train_tiny(base / "runs" / "more", "logistic", "tasks.shots=6")
    (base / "study" / "cells").mkdir(parents=True)
    (base / "study" / "study.json").write_text("{}")
    for name in ("depth-1-seed-0", "depth-2-seed-0"):
        shutil.copytree(base / "runs" / ("two" if "2" in name else "one"), base / "study" / "cells" / name)
    return base


@pytest.fixture
def here(trained, tmp_path):
    """The test's own folder, with copies of the runs."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_ls_lists_runs_and_their_results(cli, here):
    ended = cli("runs", "ls")
    assert ended.code == 0, ended.err
    for run in ("one", "two", "more"):
        final = json.loads((here / "runs" / run / "evaluation.json").read_text())["final"]["accuracy"]
        (line,) = (line for line in ended.out.splitlines() if line.split()[:1] == [run])
        assert f"{100 * final['mean']:.1f} ± {100 * final['ci95_over_tasks']:.1f} %" in line
        assert "done" in line
        assert "logistic" in line


def test_ls_json_has_all_numbers(cli, here):
    rows = json.loads(cli("runs", "ls", "--json").out)
    assert [row["name"] for row in rows] == ["more", "one", "two"]
    report = json.loads((here / "runs" / "one" / "evaluation.json").read_text())
    assert rows[1]["accuracy"] == report["final"]["accuracy"]
    assert rows[1]["status"] == "done"
    assert 0 <= rows[1]["age_s"] < 3600


def test_ls_lists_the_cells_of_a_study(cli, here):
    assert [row["name"] for row in json.loads(cli("runs", "ls", "study", "--json").out)] == [
        "cells/depth-1-seed-0",
        "cells/depth-2-seed-0",
    ]
    assert len(json.loads(cli("runs", "ls", ".", "--json").out)) == 5


def test_ls_lists_a_damaged_run_with_the_reason(cli, here):
    (here / "runs" / "two" / "manifest.json").write_text("{")
    out = cli("runs", "ls").out
    assert "two: damaged: manifest.json: not JSON" in out
    assert json.loads(cli("runs", "ls", "--json").out)[2]["reason"].startswith("manifest.json: not JSON")


def test_ls_of_a_folder_without_runs_says_so(cli, tmp_path):
    (tmp_path / "runs").mkdir()
    ended = cli("runs", "ls")
    assert (ended.code, ended.out) == (0, "")
    assert "no runs in runs. Run: mamlcli train" in ended.err
    assert json.loads(cli("runs", "ls", "--json").out) == []


def test_ls_without_the_folder_is_an_error(cli):
    ended = cli("runs", "ls")
    assert ended.code == 1
    assert ended.errors == ["runs: expected a folder of runs, got no such folder. Run: mamlcli train"]


@pytest.mark.parametrize("name", ["one", "runs/one"])
def test_show_tells_everything(cli, here, name):
    ended = cli("runs", "show", name)
    assert ended.code == 0, ended.err
    for words in (
        "done",
        "torch ",
        "Keys that differ from the shipped recipe logistic",
        "outer.iterations",
        "1000",
        "outer loss",
        "query accuracy %",
        "logistic: adaptation on 3 test tasks",
        "points",
    ):
        assert words in ended.out
    assert any(char in ended.out for char in "▁█")


def test_show_json_has_manifest_recipe_curves_and_result(cli, here):
    found = json.loads(cli("runs", "show", "two", "--json").out)
    assert found["recipe_difference"]["model.depth"] == {"there": 1, "here": 2}
    assert found["evaluation"] == json.loads((here / "runs" / "two" / "evaluation.json").read_text())
    assert found["manifest"]["versions"]["torch"] == metadata.version("torch")
    assert found["training"]["outer loss"]["iteration"] == [1, 2]
    assert "checkpoints/last.safetensors" in found["files"]


def test_show_of_a_run_at_work_says_how_far_it_is(cli, here):
    run = RunDirectory(here / "runs" / "one")
    run.update_manifest({"status": "running"})
    with run.lock():
        out = cli("runs", "show", "one").out
    assert "running" in out
    assert "2 of 2" in out
    assert "adaptation on" not in out


def test_compare_shows_paired_differences_and_the_keys(cli, here):
    ended = cli("runs", "compare", "one", "two")
    assert ended.code == 0, ended.err
    assert "minus A: paired on the same 3 tasks" in ended.out
    assert "model.depth" in ended.out
    assert "1 (A), 2 (B)" in ended.out


def test_compare_json_has_differences_of_loss_and_accuracy(cli, here):
    result = json.loads(cli("runs", "compare", "one", "two", "--json").out)
    assert [(c["metric"], c["a"], c["b"], c["num_pairs"]) for c in result["comparisons"]] == [
        ("loss", "runs/two", "runs/one", 3),
        ("accuracy", "runs/two", "runs/one", 3),
    ]
    means = {row["run"]: row["loss"]["mean"] for row in result["runs"]}
    difference = result["comparisons"][0]["difference"]["mean"]
    assert difference == pytest.approx(means["runs/two"] - means["runs/one"], abs=1e-7)


@pytest.mark.parametrize(
    ("words", "order", "baseline"),
    [
        (["one", "two"], ["runs/one", "runs/two"], "runs/one"),
        (["one", "two", "--baseline", "two"], ["runs/one", "runs/two"], "runs/two"),
        (["one", "--baseline", "two"], ["runs/two", "runs/one"], "runs/two"),
        (["study"], ["study/cells/depth-1-seed-0", "study/cells/depth-2-seed-0"], "study/cells/depth-1-seed-0"),
    ],
)
def test_compare_with_a_baseline_and_of_studies(cli, here, words, order, baseline):
    result = json.loads(cli("runs", "compare", *words, "--json").out)
    assert [row["run"] for row in result["runs"]] == order
    assert result["baseline"] == baseline


def test_compare_of_other_tasks_is_refused_unless_asked(cli, here):
    ended = cli("runs", "compare", "one", "more")
    assert ended.code == 1
    assert "expected runs scored on the same tasks, got runs that differ in tasks.shots (6 and 4)" in ended.errors[0]
    ended = cli("runs", "compare", "one", "more", "--unpaired")
    assert ended.code == 0
    assert "compared unpaired" in ended.out
    assert json.loads(cli("runs", "compare", "one", "more", "--unpaired", "--json").out)["not_paired"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["show", "oen"], "oen: expected a run directory, got no such folder. Did you mean 'one'?"),
        (["show", "runs"], "runs: expected a run directory, got a folder without recipe.yaml and manifest.json"),
        (["show", "study"], "RUN: expected one run, got a study of 2. Name one of its cells"),
        (["compare", "one"], "expected two or more runs, got 1"),
        (["compare", "one", "runs/one"], "expected different runs, got the same one twice"),
        (["compare", "one", "."], "got a folder without recipe.yaml and manifest.json. Run: mamlcli runs ls ."),
        (["compare", "one", "two", "--baseline", "study"], "--baseline: expected one run, got a study of 2"),
        (["export", "one", "--format", "word"], "--format: expected one of csv, json, markdown, latex, got 'word'"),
        (["export", "one", "--standalone", "--format", "csv"], "--standalone: expected --format latex, got csv"),
        (["export", "one", "two", "--weights", "out"], "--weights: expected one run, by itself, got 2 runs"),
        (["export", "one", "--weights", "out", "--format", "csv"], "--weights: expected one run, by itself"),
        (["export", "one", "--out", "no/where.csv"], "no/where.csv: expected a place that can be written"),
        (["export", "one", "--out", "runs"], "runs: expected a new file, got a folder"),
    ],
)
def test_bad_input_is_one_line(cli, here, words, expected):
    ended = cli("runs", *words)
    assert ended.code == 1
    assert len(ended.errors) == 1
    assert expected in ended.errors[0]


def test_export_goes_to_the_terminal_or_to_a_file_by_its_suffix(cli, here):
    assert cli("runs", "export", "one").out.startswith("| inner step |")
    assert cli("runs", "export", "one", "--standalone").out.startswith(r"\documentclass")
    for name, begin in (("a.csv", "inner_step,"), ("a.json", "{"), ("a.md", "| "), ("a.tex", "% Needs")):
        assert cli("runs", "export", "one", "--out", name).code == 0
        assert (here / name).read_text().startswith(begin)
    with (here / "a.csv").open() as stream:
        assert len(list(csv.reader(stream))) > 3


def test_export_writes_over_nothing_unless_forced(cli, here):
    (here / "paper.tex").write_text("mine")
    ended = cli("runs", "export", "one", "--out", "paper.tex")
    assert ended.code == 1
    assert (here / "paper.tex").read_text() == "mine"
    assert cli("runs", "export", "one", "--out", "paper.tex", "--force").code == 0
    assert "booktabs" in (here / "paper.tex").read_text()


def test_export_weights_writes_a_folder(cli, here):
    ended = cli("runs", "export", "one", "--weights", "out")
    assert ended.code == 0, ended.err
    names = {"model.safetensors", "config.json", "module.py", "README.md"}
    assert {path.name for path in (here / "out").iterdir()} == names
    assert cli("runs", "export", "one", "--weights", "out").code == 1
    assert cli("runs", "export", "one", "--weights", "out", "--force").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["ls"],
        ["ls", "--json"],
        ["show", "one"],
        ["compare", "one", "two"],
        ["export", "one", "two", "--format", "latex"],
    ],
    ids=" ".join,
)
def test_tables_are_made_without_torch_and_are_plain_in_a_pipe(here, words):
    code = (
        "import sys\nfrom mamlcli.__main__ import main\n"
        "try:\n    main()\nfinally:\n    sys.stderr.write(str('torch' in sys.modules))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "runs", *words], cwd=here, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == "False"
    assert "\x1b" not in ended.stdout
    assert ended.stdout
