"""What runs there are, how each stands, and what two of them differ in; differences against numpy and scipy."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
from datetime import datetime, timezone

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from mamlcli.common.errors import RunError
from mamlcli.common.tables import sparkline
from mamlcli.common.words import one_line
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.catalogue import changed_keys, find_runs, recipe_base, resolve_run, runs_at
from mamlcli.runs.comparison import compare_runs, task_differences
from mamlcli.runs.comparison_tables import comparison_parts, letters
from mamlcli.runs.entry import read_run
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.tables import age, run_parts, runs_table, training_curves
from tests.helpers.running import train_tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Tiny runs, trained once; tests that change one copy it."""
    base = tmp_path_factory.mktemp("trained")
    validated = ("validation.every=1", "validation.tasks=2")
    train_tiny(base / "one", "logistic", *validated)
    train_tiny(base / "two", "logistic", "model.depth=2", "seed=1")
    train_tiny(base / "five", "logistic", "evaluation.tasks=5", *validated)
    train_tiny(base / "more-shots", "logistic", "tasks.shots=6")
    train_tiny(base / "other-tasks", "logistic", "evaluation.seed=1")
    train_tiny(base / "line", "linear-regression")
    return base


@pytest.fixture
def runs(trained, tmp_path):
    """A folder with copies of all of them."""
    return shutil.copytree(trained, tmp_path / "runs")


def shown(parts, width=80):
    console = Console(width=width, file=io.StringIO(), highlight=False)
    for part in parts if isinstance(parts, list) else [parts]:
        console.print(part)
    return console.file.getvalue()


def found(base):
    return {run.name: run for run in find_runs(base)}


def change_manifest(run, **changes):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def query_scores(run):
    """Return the query losses and accuracies after the last inner step, read by numpy alone, [num_tasks, 2]."""
    table = np.genfromtxt(run / "tasks.csv", delimiter=",", names=True)
    last = table[table["inner_step"] == table["inner_step"].max()]
    return np.stack([last["query_loss"], last["query_accuracy"]], axis=1)


# The list ------------------------------------------------------------------------------------------------------


def test_runs_are_listed_with_what_their_files_say(runs):
    run = found(runs)["one"]
    report = json.loads((runs / "one" / "evaluation.json").read_text())
    manifest = json.loads((runs / "one" / "manifest.json").read_text())
    assert (run.status, run.reason, run.recipe_name) == ("done", None, "logistic")
    assert run.final("accuracy").to_json() == report["final"]["accuracy"]
    assert run.final("loss").to_json() == report["final"]["loss"]
    assert (run.iteration, run.num_iterations, run.wall_s) == (2, 2, manifest["wall_s"])
    started = datetime.fromisoformat(manifest["started_at"])
    assert run.age_s(started.replace(year=started.year + 1)) == pytest.approx(365 * 86400, abs=86400)


def test_regression_has_a_loss_and_no_accuracy(runs):
    run = found(runs)["line"]
    assert run.final("accuracy") is None
    assert run.final("loss").mean > 0


def test_runs_are_found_below_folders_and_in_the_order_of_their_numbers(runs, tmp_path):
    cells = tmp_path / "all" / "study" / "cells"
    cells.mkdir(parents=True)
    for name in ("depth-10-seed-0", "depth-9-seed-0"):
        shutil.copytree(runs / "one", cells / name)
    shutil.copytree(runs / "one", tmp_path / "all" / "a" / "b" / "c")
    names = [run.name for run in find_runs(tmp_path / "all")]
    assert names == ["a/b/c", "study/cells/depth-9-seed-0", "study/cells/depth-10-seed-0"]
    table = shown(runs_table(find_runs(tmp_path / "all")))
    assert "study/cells/\n" in table.replace(" ", "")
    assert "  depth-9-seed-0" in table


def test_a_link_that_leads_back_is_followed_once(runs):
    (runs / "again").symlink_to(runs, target_is_directory=True)
    (runs / "0-link").symlink_to(runs / "one", target_is_directory=True)
    assert sorted(found(runs)) == ["five", "line", "more-shots", "one", "other-tasks", "two"]


def test_a_link_to_runs_elsewhere_is_followed(runs, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "scratch").symlink_to(runs / "one", target_is_directory=True)
    assert list(found(tmp_path / "here")) == ["scratch"]


def test_a_folder_without_runs_has_none(tmp_path):
    (tmp_path / "empty" / "notes").mkdir(parents=True)
    (tmp_path / "empty" / "notes" / "a.txt").write_text("a text")
    assert find_runs(tmp_path / "empty") == []


def test_no_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for name, got in (("nothing", "no such folder"), ("file", "a file")):
        with pytest.raises(RunError, match=f"expected a folder of runs, got {got}"):
            find_runs(tmp_path / name)


DAMAGE = {
    "no manifest": (lambda run: (run / "manifest.json").unlink(), "manifest.json: no such file"),
    "empty manifest": (lambda run: (run / "manifest.json").write_text(""), "manifest.json: an empty file"),
    "cut manifest": (lambda run: (run / "manifest.json").write_text('{"status": "do'), "manifest.json: not JSON"),
    "binary manifest": (lambda run: (run / "manifest.json").write_bytes(b"\xff\xfe\x00"), "manifest.json: not JSON"),
    "list manifest": (
        lambda run: (run / "manifest.json").write_text("[1]"),
        "no JSON object but a list",
    ),
    "unknown status": (lambda run: change_manifest(run, status="fine"), "status: expected one of done"),
    "no recipe": (lambda run: (run / "recipe.yaml").unlink(), "recipe.yaml: no such file"),
    "wrong recipe": (lambda run: (run / "recipe.yaml").write_text("tasks: {source: x}"), "recipe.yaml:1: tasks.source"),
    "binary recipe": (lambda run: (run / "recipe.yaml").write_bytes(b"\xff\xfe\x00"), "got a binary file"),
    "no result": (lambda run: (run / "evaluation.json").unlink(), "evaluation.json: no such file"),
    "cut result": (lambda run: (run / "evaluation.json").write_text("{"), "evaluation.json: not JSON"),
    "other result": (
        lambda run: (run / "evaluation.json").write_text("{}"),
        "evaluation.json: not the result of a run",
    ),
    "folder": (lambda run: ((run / "manifest.json").unlink(), (run / "manifest.json").mkdir()), "manifest.json: is a"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_listed_with_the_reason(runs, kind):
    damage, reason = DAMAGE[kind]
    damage(runs / "one")
    run = found(runs)["one"]
    assert run.status == "damaged"
    assert reason in run.reason
    assert "\n" not in run.reason
    assert "one" in shown(runs_table(list(found(runs).values())))
    shown(run_parts(run))  # it can be looked at all the same
    with pytest.raises(RunError, match="a damaged one"):
        compare_runs([run, read_run(runs / "two")])


def test_several_things_that_are_wrong_are_all_named(runs):
    (runs / "one" / "manifest.json").unlink()
    (runs / "one" / "recipe.yaml").unlink()
    assert found(runs)["one"].reason.count("no such file") == 2


def test_a_folder_that_cannot_be_read_is_listed(runs, monkeypatch):
    scan = os.scandir

    def denied(path):
        if str(path).endswith("two"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert "two" in found(runs)


def test_a_run_at_work_is_told_from_one_that_was_killed(runs):
    change_manifest(runs / "one", status="running", wall_s=1.5)
    assert found(runs)["one"].status == "cut"
    with RunDirectory(runs / "one").lock():
        run = found(runs)["one"]
        assert (run.status, run.iteration) == ("running", 2)
        last = json.loads((runs / "one" / "metrics.jsonl").read_text().splitlines()[-1])
        assert run.wall_s == pytest.approx(1.5 + last["elapsed_s"])
        assert "running 100 %" in shown(runs_table([run]), 120)
        with pytest.raises(RunError, match=r"got one at work, at iteration 2\. Wait for it to end"):
            compare_runs([run, read_run(runs / "two")])


def test_looking_at_a_run_does_not_lock_it(runs):
    change_manifest(runs / "one", status="running")
    find_runs(runs)
    with RunDirectory(runs / "one").lock():
        pass


@pytest.mark.parametrize("content", [b"", b"{", b'{"kind": "step", "iteration": 7, "elapsed_s": 2}\n{"kind": "st'])
def test_metrics_that_end_in_the_middle_are_read_to_their_last_whole_line(runs, content):
    change_manifest(runs / "one", status="running", wall_s=0.0)
    (runs / "one" / "metrics.jsonl").write_bytes(content)
    assert found(runs)["one"].iteration == (7 if b"7" in content else 0)


NAMES = ("with space", "two\nlines", "Ωμέγα 中文", "[red]markup[/red]", "a|b_c%d&e", "\x1b[31mescape", "- 1", "' \"")


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_kind_are_shown_in_one_line_as_they_are(trained, tmp_path, name):
    run = tmp_path / "runs" / name
    shutil.copytree(trained / "one", run)
    change_manifest(run, recipe_name=name)
    (entry,) = find_runs(tmp_path / "runs")
    assert entry.recipe_name == entry.name == one_line(name)
    for text in (shown(runs_table([entry]), 120), shown(run_parts(entry), 200)):
        assert one_line(name) in text
        assert "\x1b" not in text


def test_a_name_of_bytes_that_are_no_text_is_written_out(trained, tmp_path):
    run = tmp_path / "runs" / os.fsdecode(b"bad\xff")
    try:
        shutil.copytree(trained / "one", run)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    (entry,) = find_runs(tmp_path / "runs")
    assert entry.name == "bad\\\\xff" or entry.name == "bad\\xff"
    entry.folder.encode()


def test_every_table_fits_80_columns(runs):
    change_manifest(runs / "one", status="interrupted")
    shutil.copytree(runs / "two", runs / ("a-very-long-name" * 6))
    entries = find_runs(runs)
    done = [run for run in entries if run.status == "done" and run.name not in ("line", "more-shots", "other-tasks")]
    tables = [runs_table(entries), *run_parts(done[0]), *comparison_parts(compare_runs(done))]
    assert max(len(line) for line in shown(tables).splitlines()) <= 80


# One run -------------------------------------------------------------------------------------------------------


def test_changed_keys_are_those_that_were_changed(runs):
    run = read_run(runs / "two")
    words, shipped = recipe_base(run)
    assert words == "the shipped recipe logistic"
    assert shipped == load_recipe("logistic")[1]
    changed = changed_keys(run)
    assert changed["model.depth"] == (1, 2)
    assert changed["seed"] == (0, 1)
    assert "inner.lr" not in changed


def test_a_recipe_of_ones_own_is_read_against_the_defaults(runs):
    change_manifest(runs / "two", recipe_name="mine")
    run = read_run(runs / "two")
    assert recipe_base(run)[0] == "the defaults (mine is not a shipped recipe)"
    assert changed_keys(run)["model.depth"] == (1, 2)


def test_training_curves_are_the_metrics(runs):
    records = [json.loads(line) for line in (runs / "one" / "metrics.jsonl").read_text().splitlines()]
    curves = training_curves(read_run(runs / "one"))
    assert curves["outer loss"]["value"] == [r["outer_loss"] for r in records if r["kind"] == "step"]
    assert curves["meta-validation accuracy"]["value"] == [r["accuracy"] for r in records if r["kind"] == "validation"]
    assert curves["meta-validation loss"]["iteration"] == [1, 2]


def test_sparkline_is_lowest_at_the_minimum_and_highest_at_the_maximum():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([3, 3]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([1, float("nan"), 2, float("inf")]) == "▁·█·"


def test_sparkline_averages_what_is_longer_than_its_width():
    # Means of (0, 1), (2, 3), (4, 5), (6, 7): 0.5, 2.5, 4.5, 6.5, at 0, 1/3, 2/3, 1 of the height.
    assert sparkline(range(8), 4) == "▁▃▆█"
    assert len(sparkline(range(1000), 33)) == 33


def test_ages_are_in_the_unit_that_fits():
    assert [age(s) for s in (None, -5, 45, 3000, 7200, 40 * 3600)] == ["-", "0 s", "45 s", "50 min", "2.0 h", "2 d"]


# Comparison ----------------------------------------------------------------------------------------------------


def test_paired_differences_are_those_of_scipy(runs):
    compared = compare_runs([read_run(runs / "one"), read_run(runs / "two")])
    result = compared.to_json()
    one, two = query_scores(runs / "one"), query_scores(runs / "two")
    for comparison, column in zip(result["comparisons"], (0, 1), strict=True):
        test = stats.ttest_rel(two[:, column], one[:, column])
        low, high = test.confidence_interval(0.95)
        assert comparison["metric"] == ("loss", "accuracy")[column]
        assert (comparison["is_paired"], comparison["num_pairs"]) == (True, 3)
        assert comparison["difference"]["mean"] == pytest.approx((two - one)[:, column].mean(), rel=1e-12)
        assert comparison["difference"]["ci95_over_tasks"] == pytest.approx((high - low) / 2, rel=1e-9)
    assert result["recipe_differences"].keys() >= {"model.depth", "seed"}
    assert result["recipe_differences"]["model.depth"] == {str(runs / "one"): 1, str(runs / "two"): 2}


def test_runs_of_more_and_fewer_tasks_are_paired_on_those_they_share(runs):
    compared = compare_runs([read_run(runs / "one"), read_run(runs / "five")])
    result = compared.to_json()
    expected = query_scores(runs / "five")[:3] - query_scores(runs / "one")
    assert [c["num_pairs"] for c in result["comparisons"]] == [3, 3]
    assert result["comparisons"][0]["difference"]["mean"] == pytest.approx(expected[:, 0].mean(), rel=1e-12)
    assert "paired on the same 3 tasks" in shown(comparison_parts(compared))
    # The two trained alike: their shared tasks are the same ones, and so are the scores, but for rounding.
    assert np.allclose(expected, 0.0, atol=1e-6)


def test_several_runs_are_compared_with_the_baseline_each(runs):
    entries = [read_run(runs / name) for name in ("one", "two", "five")]
    compared = compare_runs(entries, baseline=1)
    result = compared.to_json()
    assert result["baseline"] == str(runs / "two")
    assert {(c["a"], c["b"]) for c in result["comparisons"]} == {
        (str(runs / name), str(runs / "two")) for name in ("one", "five")
    }
    text = shown(comparison_parts(compared))
    assert "minus B" in text
    assert "not adjusted for 2" in text
    assert "1 (A C), 2 (B)" in text


@pytest.mark.parametrize(
    ("other", "key"), [("more-shots", "tasks.shots (6 and 4)"), ("other-tasks", "evaluation.seed (1 and 0)")]
)
def test_runs_on_other_tasks_are_refused_or_compared_unpaired_in_words(runs, other, key):
    entries = [read_run(runs / "one"), read_run(runs / other)]
    with pytest.raises(RunError) as caught:
        compare_runs(entries)
    assert key in str(caught.value)
    assert "--unpaired" in str(caught.value)
    compared = compare_runs(entries, allow_unpaired=True)
    result = compared.to_json()
    one, two = query_scores(runs / "one"), query_scores(runs / other)
    low, high = stats.ttest_ind(two[:, 0], one[:, 0], equal_var=False).confidence_interval(0.95)
    comparison = result["comparisons"][0]
    assert (comparison["is_paired"], comparison["num_pairs"]) == (False, None)
    assert comparison["difference"]["mean"] == pytest.approx(two[:, 0].mean() - one[:, 0].mean(), rel=1e-9)
    assert comparison["difference"]["ci95_over_tasks"] == pytest.approx((high - low) / 2, rel=1e-9)
    text = " ".join(shown(comparison_parts(compared)).split())
    assert "B and A are compared unpaired" in text
    assert key in text


def test_ways_split_and_data_make_tasks_different(runs):
    one = read_run(runs / "one")
    assert task_differences(one, read_run(runs / "two")) == []
    protocol = dataclasses.replace(one.report.protocol, split="train")
    other_split = dataclasses.replace(one, report=dataclasses.replace(one.report, protocol=protocol))
    assert task_differences(one, other_split) == ["evaluation.split ('test' and 'train')"]
    a, b = (dataclasses.replace(one, manifest={**one.manifest, "data": {"digest": digest}}) for digest in "ab")
    assert task_differences(a, b) == ["data digest ('a' and 'b')"]
    fewer, more = (
        dataclasses.replace(a, recipe=load_recipe("glyphs-5way-1shot", [f"tasks.ways={ways}"])[1]) for ways in (5, 10)
    )
    assert task_differences(fewer, more) == ["tasks.ways (5 and 10)"]
    here, there = (
        dataclasses.replace(a, recipe=load_recipe("glyphs-5way-1shot", [f"tasks.path={path}"])[1]) for path in "xy"
    )
    assert task_differences(here, there) == []  # one digest, so the same images in two places


def test_classification_and_regression_are_never_compared(runs):
    with pytest.raises(RunError, match="two classifications or two regressions"):
        compare_runs([read_run(runs / "one"), read_run(runs / "line")], allow_unpaired=True)


def test_one_run_or_the_same_twice_is_refused(runs):
    with pytest.raises(RunError, match="expected two or more runs, got 1"):
        compare_runs([read_run(runs / "one")])
    with pytest.raises(RunError, match="the same one twice"):
        compare_runs([read_run(runs / "one"), read_run(runs / "two" / ".." / "one")])


def test_scores_of_another_evaluation_are_not_compared(runs):
    shutil.copy(runs / "five" / "tasks.csv", runs / "one" / "tasks.csv")
    with pytest.raises(RunError, match=r"expected the tasks of evaluation\.json, got another evaluation's"):
        compare_runs([read_run(runs / "one"), read_run(runs / "two")])
    shutil.copy(runs / "other-tasks" / "tasks.csv", runs / "one" / "tasks.csv")  # of the same shape
    with pytest.raises(RunError, match="another evaluation's"):
        compare_runs([read_run(runs / "one"), read_run(runs / "two")])


@pytest.mark.parametrize("kind", ["none", "empty", "cut", "row missing", "text"])
def test_damaged_scores_are_an_error_that_says_what_to_run(runs, kind):
    path = runs / "one" / "tasks.csv"
    lines = path.read_text().splitlines()
    contents = {
        "empty": "",
        "cut": path.read_text()[:-20],
        "text": "a text\n",
        "row missing": "\n".join([*lines[:3], *lines[4:]]),
    }
    path.unlink() if kind == "none" else path.write_text(contents[kind])
    with pytest.raises(RunError, match=r"tasks.csv: expected the scores of a run's tasks.*mamlcli adapt"):
        RunDirectory(runs / "one").read_scores()


def test_a_score_that_overflowed_leaves_no_difference_and_is_told(runs):
    path = runs / "one" / "tasks.csv"
    lines = path.read_text().splitlines()
    steps = json.loads((runs / "one" / "evaluation.json").read_text())["protocol"]["inner_steps"]
    lines[steps + 1] = f"0,{steps},inf,0.5,inf,0.5"
    path.write_text("\n".join(lines) + "\n")
    report = json.loads((runs / "one" / "evaluation.json").read_text())
    report["final"]["loss"] = {"mean": None, "ci95_over_tasks": None}
    (runs / "one" / "evaluation.json").write_text(json.dumps(report))
    compared = compare_runs([read_run(runs / "two"), read_run(runs / "one")])
    result = compared.to_json()
    assert result["comparisons"][0]["difference"] == {"mean": None, "ci95_over_tasks": None}
    assert result["comparisons"][0]["num_overflowed"] == 1
    assert "loss is not finite on 1 tasks" in " ".join(shown(comparison_parts(compared)).split())


def test_a_study_stands_for_its_finished_cells(runs, tmp_path):
    study = tmp_path / "study"
    (study / "cells").mkdir(parents=True)
    (study / "study.json").write_text("{}")
    with pytest.raises(RunError, match="0 cells, none of them finished"):
        runs_at(study)
    for name in ("depth-2", "depth-1"):
        shutil.copytree(runs / "one", study / "cells" / name)
    change_manifest(study / "cells" / "depth-2", status="failed")
    assert [run.path.name for run in runs_at(study)] == ["depth-1"]


def test_a_run_is_named_by_its_path_or_below_the_base(runs):
    assert resolve_run("one", runs) == runs / "one"
    assert resolve_run(str(runs / "one"), runs) == runs / "one"
    with pytest.raises(RunError, match=r"expected a run directory, got no such folder. Did you mean 'other-tasks'\?"):
        resolve_run("other-taks", runs)
    with pytest.raises(RunError, match="RUN: expected a run directory"):
        resolve_run(" ", runs)


def test_letters_go_on_after_z():
    assert [letters(n) for n in (0, 25, 26, 51, 52, 702)] == ["A", "Z", "AA", "AZ", "BA", "AAA"]


def test_ages_are_counted_from_now(runs):
    assert 0 <= read_run(runs / "one").age_s(datetime.now(timezone.utc)) < 3600
