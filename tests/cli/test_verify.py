"""`mamlcli recipes verify`, run as a user would."""

from __future__ import annotations

import json
import shlex

import pytest

from mamlcli.cli.verify import protocol_at_reference
from mamlcli.recipe.files import load_recipe
from tests.helpers.running import TINY

REFERENCE = "reference={metric: accuracy, value: 50, margin: 500}"
RECIPE = ("logistic", *TINY, REFERENCE)


def verify(cli, *words):
    return cli("recipes", "verify", *RECIPE, *words)


def test_runs_its_seeds_and_reaches_a_reference_within_a_wide_margin(cli, tmp_path):
    ended = verify(cli, "--seeds", 2, "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["verdict"] in ("equivalent", "better")
    assert [run["run"] for run in report["runs"]] == [f"runs/verify-logistic/seed-{seed}" for seed in (0, 1)]
    assert (report["num_seeds"], report["num_tasks"]) == (2, 3)
    assert "reference" not in (tmp_path / "runs/verify-logistic/seed-0/recipe.yaml").read_text()


def test_finished_runs_are_taken_over(cli, tmp_path):
    assert verify(cli, "--seeds", 1).code == 0
    manifest = (tmp_path / "runs/verify-logistic/seed-0/manifest.json").read_text()
    again = verify(cli, "--seeds", 2)
    assert "seed-0 is already done" in again.err
    assert (tmp_path / "runs/verify-logistic/seed-0/manifest.json").read_text() == manifest
    assert "over 2 seeds and 3 tasks" in again.out


def test_three_seeds_are_the_default_in_a_folder_of_ones_own(cli, tmp_path):
    assert verify(cli, "--dir", "mine").code == 0
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["seed-0", "seed-1", "seed-2"]


@pytest.mark.parametrize(("value", "code", "verdict"), [(100, 1, "worse"), (0, 0, "better")])
def test_exit_code_says_whether_the_reference_is_reached(cli, value, code, verdict):
    ended = verify(cli, f"reference.value={value}", "reference.margin=0.01", "evaluation.tasks=40", "--seeds", 1)
    assert ended.code == code
    assert f"Verdict: {verdict}" in ended.out
    assert "one seed" in ended.out
    assert f"reference.value={value} reference.margin=0.01" in ended.out
    assert not ended.errors


def test_runs_that_are_given_are_taken_instead(cli, tmp_path):
    assert cli("train", *RECIPE, "--run-dir", "runs/mine").code == 0
    ended = verify(cli, "--run", "mine")
    assert ended.code == 0, ended.err
    assert not (tmp_path / "runs/verify-logistic").exists()
    ended = verify(cli, "model.depth=2", "--run", "mine")
    assert ended.code == 1
    assert "expected a run of logistic, got another: model.depth (2 in the recipe, 1 in the run)" in ended.errors[0]


def test_run_that_was_scored_again_on_more_tasks_is_taken(cli):
    assert cli("train", *RECIPE, "--run-dir", "runs/mine").code == 0
    ended = verify(cli, "evaluation.tasks=5", "--run", "mine")
    assert ended.code == 1
    command = ended.errors[0].partition("or run: mamlcli ")[2]
    assert cli(*shlex.split(command)).code == 0
    assert "over 5 tasks, one seed" in verify(cli, "evaluation.tasks=5", "--run", "mine").out


def test_folder_with_runs_of_other_keys_is_refused(cli):
    assert verify(cli, "--seeds", 1).code == 0
    ended = verify(cli, "--seeds", 1, "model.depth=2")
    assert ended.code == 1
    assert "model.depth (1 there, 2 here)" in ended.errors[0]
    assert "Name another --dir" in ended.errors[0]


def test_run_that_was_cut_goes_on(cli, tmp_path):
    assert verify(cli, "--seeds", 1).code == 0
    run = tmp_path / "runs/verify-logistic/seed-0"
    for name in ("evaluation.json", "tasks.csv"):
        (run / name).unlink()
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    ended = verify(cli, "--seeds", 1)
    assert "resuming from iteration 2" in ended.err
    assert ended.code == 0, ended.err


def test_recipe_without_a_reference_is_refused_before_anything_runs(cli, tmp_path):
    (tmp_path / "mine.yaml").write_text("tasks: {source: sinusoid}\nmodel: {kind: mlp}\n")
    ended = cli("recipes", "verify", "mine.yaml")
    assert ended.code == 1
    assert ended.errors[0].startswith("mine: reference: expected the number that the recipe should reproduce, got none")
    assert "{metric: squared-error" in ended.errors[0]
    assert not (tmp_path / "runs").exists()


def test_runs_and_seeds_do_not_go_together(cli):
    ended = verify(cli, "--run", "mine", "--seeds", 2)
    assert ended.code == 1
    assert ended.errors[0].startswith("--run: expected not to be used with --seeds")


def test_protocol_is_that_of_the_reference_steps():
    recipe = load_recipe("sinusoid", ["reference={metric: squared-error, value: 0.4, margin: 0.1, steps: 1}"])[1]
    protocol = protocol_at_reference(recipe)
    assert (protocol.inner_steps, recipe.evaluation.steps) == (1, 10)
    assert (protocol.split, protocol.num_tasks) == ("test", recipe.evaluation.tasks)
