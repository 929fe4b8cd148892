"""`mamlcli sweep-depth`, `add-linear` and `meta-opt`, run as a user would."""

import json

import pytest

from tests.helpers.reproductions import Pool
from tests.helpers.studies import TINY

SHORT = ("--seeds", "1", "--jobs", "1")


@pytest.fixture
def study(cli):
    """A finished add-linear study of two cells: its JSON and the command line."""
    done = cli("add-linear", "logistic", *TINY, "--layers", "0,1", *SHORT, "--dir", "study", "--json")
    assert done.code == 0, done.err
    return json.loads(done.out), cli


def test_a_study_prints_json_in_the_form_that_is_documented_and_writes_its_files(study, tmp_path):
    result, cli = study
    assert (result["study"], result["axis"]) == ("add-linear", "model.linear_layers")
    assert [cell["value"] for cell in result["cells"]] == [0, 1]
    for cell in result["cells"]:
        assert set(cell["loss"]) == set(cell["accuracy"]) == {"mean", "ci95_over_tasks"}
        assert [point["step"] for point in cell["curve"]] == [0, 1, 2]
        assert cell["num_parameters_collapsed"] == 8
        assert cell["collapse_max_difference"] <= 1e-4
    assert [(c["a"], c["b"], c["metric"]) for c in result["comparisons"]] == [(1, 0, "loss"), (1, 0, "accuracy")]
    for name in ("study.json", "result.json", "table.csv", "figure.png", "figure.svg"):
        assert (tmp_path / "study" / name).stat().st_size > 0
    # The same command again only shows; another study is refused; and a run can be exported collapsed.
    again = cli("add-linear", "logistic", *TINY, "--layers", "0,1", *SHORT, "--dir", "study")
    assert again.code == 0
    assert again.err.count("(was done)") == 2
    assert "every model gives the same outputs" in " ".join(again.out.split())
    other = cli("meta-opt", "logistic", *TINY, *SHORT, "--dir", "study")
    assert other.code == 1
    assert "study ('add-linear' there, 'meta-opt' here)" in other.err
    export = cli("add-linear", "study/cells/1-layer-seed-0", "--collapse", "small.safetensors")
    assert export.code == 0
    assert "20 parameters collapsed to 8" in export.out
    assert (tmp_path / "small.safetensors").is_file()
    twice = cli("add-linear", "study/cells/1-layer-seed-0", "--collapse", "small.safetensors")
    assert twice.code == 1
    assert "--collapse small-2.safetensors" in twice.err


def test_a_cell_that_diverges_is_reported_with_exit_1_and_the_other_is_shown(cli, monkeypatch):
    monkeypatch.setattr("mamlcli.studies.sweeps.run.run_jobs", Pool())
    done = cli("sweep-depth", "linear-regression", *TINY, "inner.lr=1e30", "--depths", "1", *SHORT, "--no-capacity")
    assert done.code == 1
    assert "expected every cell to finish, got 1 that failed" in done.err
    assert "--dir runs/sweep-depth-linear-regression-1" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep-depth", "--depths", "1,two"], "--depths: expected whole numbers separated by commas"),
        (["sweep-depth", "--depths", ""], "--depths: expected at least one value"),
        (["sweep-depth", "--depths", "0"], "--depths 0: model.depth: expected an integer >= 1, got 0"),
        (["sweep-depth", "model.depth=2"], "expected model.depth left to the study"),
        (["sweep-depth", "--inner-lrs", "0.1,-1"], "inner.lr: expected a number > 0"),
        (["add-linear", "--layers", "1", "model.linear_width=1"], "model.linear_width: expected an integer >= 2"),
        (["add-linear", ".", "--layers", "1"], "expected a run directory"),
        (["add-linear", "--collapse", "out"], "--collapse: expected a run directory"),
        (["meta-opt", "--optimizers", "none,sgd"], "Did you mean 'meta-sgd'?"),
    ],
)
def test_bad_input_is_one_clear_line_and_nothing_is_made(cli, tmp_path, words, message):
    done = cli(*words)
    assert done.code == 1, done.err
    assert message in done.err
    assert not (tmp_path / "runs").exists()
