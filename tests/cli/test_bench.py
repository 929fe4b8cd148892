"""`mamlcli bench`, run as a user would."""

import json

import pytest

from mamlcli.bench import cases
from mamlcli.training.tuned import load_tuned, tuned_path
from tests.helpers.benches import TINY_CASE, make_bench_quick, make_samples_short
from tests.helpers.running import TINY


@pytest.fixture
def tiny_case(monkeypatch):
    """Know a case that takes no time, take one sample, and start no process."""
    monkeypatch.setitem(cases.CASES, "tiny", TINY_CASE)
    make_bench_quick(monkeypatch)


TINY_WORDS = ("bench", "--cases", "tiny", "--repeats", 1, "--device", "cpu")


def test_json_is_one_document_on_stdout(cli, tiny_case):
    done = cli(*TINY_WORDS, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert set(report) >= {"machine", "settings", "rows", "ratios"}
    assert {row["case"] for row in report["rows"]} == {"tiny"}
    assert "same meta-gradient" in done.err


def test_table_is_the_result_and_files_are_written(cli, tiny_case, tmp_path):
    done = cli(*TINY_WORDS, "--figure", "speed.png", "--out", "folder")
    assert done.code == 0, done.err
    for words in ("tiny: CNN 1x2", "mamlcli (auto)", "plain loop", "speedup"):
        assert words in done.out
    for path in ("speed.png", "folder/bench.png", "folder/bench.json"):
        assert (tmp_path / path).is_file()
        assert f"Written: {path}" in done.err


def test_unknown_case_is_an_error_before_anything_runs(cli):
    done = cli("bench", "--cases", "logistic,omniglott")
    assert done.code == 1
    assert len(done.errors) == 1
    assert "'omniglott'. Did you mean 'omniglot'?" in done.errors[0]


def test_a_recipe_needs_tune(cli):
    done = cli("bench", "sinusoid")
    assert done.code == 1
    assert "mamlcli bench --tune sinusoid" in done.errors[0]


def test_a_device_that_is_not_there_is_an_error(cli):
    done = cli("bench", "--cases", "logistic", "--device", "cuda:99")
    assert done.code == 1
    assert done.errors[0].startswith("--device: expected a device of this machine")


def test_interrupted_bench_ends_with_130(cli, tiny_case, monkeypatch):
    def interrupted(request):
        raise KeyboardInterrupt

    monkeypatch.setattr("mamlcli.bench.benchmark.measure_memory", interrupted)
    done = cli(*TINY_WORDS, "--out", "folder")
    assert done.code == 130
    assert done.out == ""
    assert "interrupted; nothing was written" in done.err


@pytest.fixture
def short_samples(monkeypatch):
    make_samples_short(monkeypatch)


def test_tune_stores_what_was_fastest(cli, short_samples):
    done = cli("bench", "--tune", "linear-regression", *TINY, "--repeats", 1, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["file"] == str(tuned_path())
    assert report["chosen"] in report["candidates"]
    stored = load_tuned(report["key"]).to_json()
    assert (stored["execution"], stored["threads"]) == (report["chosen"]["execution"], report["chosen"]["threads"])
    assert stored["recipe"] == "linear-regression"


def test_tune_shows_a_table_and_replaces_a_damaged_file_with_a_warning(cli, short_samples):
    tuned_path().parent.mkdir(parents=True)
    tuned_path().write_text("{")
    done = cli("bench", "--tune", "linear-regression", *TINY, "--repeats", 1)
    assert done.code == 0, done.err
    assert "chosen" in done.out
    assert "warning:" in done.err
    assert "ignored" in done.err
    assert len(json.loads(tuned_path().read_text())) == 1


def test_help_names_cases_and_options(cli):
    text = cli("bench", "--help").out
    for word in (
        "--cases",
        "--repeats",
        "--device",
        "--compile",
        "--tune",
        "--figure",
        "--out",
        "--json",
        "cifar-fs-release",
        "mamlcli[bench,bench-jax]",
    ):
        assert word in text
