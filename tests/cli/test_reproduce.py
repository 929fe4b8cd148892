"""`mamlcli reproduce`."""

import json

import pytest

from mamlcli.studies.claims.scales import SCALES
from tests.helpers.reproductions import LINREG, Pool, tiny_scale


@pytest.fixture
def pool(monkeypatch):
    """A pool that runs jobs in this process, and the tiny scale."""
    monkeypatch.setitem(SCALES, "tiny", lambda: tiny_scale(families=(LINREG,)))
    pool = Pool()
    for module in ("sweeps.run", "claims.pilots"):
        monkeypatch.setattr(f"mamlcli.studies.{module}.run_jobs", pool)
    monkeypatch.setattr("mamlcli.studies.claims.costs.run_jobs", Pool())  # what is measured is no run
    return pool


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the figures of the report undrawn: they take most of the time of a tiny reproduction."""
    monkeypatch.setattr("mamlcli.studies.claims.figures.figure_bytes", lambda figure, kind: kind.encode())


def test_a_reproduction_is_registered_run_decided_and_reported(tmp_path, cli, pool, undrawn):
    done = cli("reproduce", "--scale", "tiny", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [claim["id"] for claim in found["claims"]] == ["C1", "C2", "C3", "C4", "C5", "C6", "C7"]
    assert all(check["holds"] for claim in found["claims"] for check in claim["evidence"]["checks"])
    folder = tmp_path / "runs" / "reproduce-tiny"
    assert json.loads((folder / "plan.json").read_text())["digest"] == found["plan"]["digest"]
    assert json.loads((folder / "result.json").read_text()) == found
    assert "C7" in (folder / "report.md").read_text()
    # The cost stands before the first run.
    assert done.err.index("4 runs for the first look") < done.err.index("[1/4]")
    # Again: every cell was done, nothing is trained, the result is the same.
    num_jobs, again = pool.num_jobs, cli("reproduce", "--scale", "tiny", "--json")
    assert pool.num_jobs == num_jobs
    assert "4 of them done" in again.err
    assert json.loads(again.out)["claims"] == found["claims"]


def test_the_terminal_shows_verdicts_what_is_open_and_the_report(tmp_path, cli, pool, undrawn):
    done = cli("reproduce", "--scale", "tiny", "--dir", "r")
    assert done.code == 0, done.err
    words = " ".join(done.out.split())
    for part in ("look 1 of 1, at 2 seeds", "open predictions", "margin", "would decide"):
        assert part in words
    assert "Report: r/report.html" in " ".join(done.err.split())


def test_a_dry_run_says_what_it_costs_and_makes_nothing(tmp_path, cli, pool):
    done = cli("reproduce", "--scale", "tiny", "--until-decided", "--dry-run", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["num_runs"] == 10
    assert "looks at 5, 10 and 20 seeds" in " ".join(done.err.split())
    assert not (tmp_path / "runs").exists()


def test_the_report_is_made_again_from_what_is_there_and_nothing_is_run(tmp_path, cli, pool):
    assert cli("reproduce", "--scale", "tiny", "--dir", "r").code == 0
    folder, num_jobs = tmp_path / "r", pool.num_jobs
    files = {name: (folder / name).read_bytes() for name in ("report.md", "result.json", "claims.csv", "forest.png")}
    for name in files:
        (folder / name).unlink()
    done = cli("reproduce", "--dir", "r", "--report")
    assert done.code == 0, done.err
    assert pool.num_jobs == num_jobs
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert "`mamlcli reproduce --dir r --report`" in files["report.md"].decode()


def test_a_report_of_a_cut_reproduction_is_of_the_runs_that_there_are(tmp_path, cli, pool, undrawn):
    pool.stop_after = 1
    assert cli("reproduce", "--scale", "tiny", "--dir", "r").code == 130
    done = cli("reproduce", "--dir", "r", "--report", "--json")
    assert done.code == 0, done.err
    assert pool.num_jobs == 1
    assert json.loads(done.out)["look"] == 0


def test_a_report_without_a_plan_or_with_options_of_runs_is_refused(tmp_path, cli, pool):
    done = cli("reproduce", "--dir", "nothing", "--report")
    assert done.code == 1
    words = " ".join(done.err.split())
    assert "nothing: expected a reproduction, a folder with a plan.json, got no such folder" in words
    assert not (tmp_path / "nothing").exists()
    done = cli("reproduce", "--dir", "nothing", "--report", "--seeds", "3")
    assert "Nothing is run: the plan is the one in the folder" in " ".join(done.err.split())


def test_an_interruption_says_how_it_is_continued(tmp_path, cli, pool):
    pool.stop_after = 0
    done = cli("reproduce", "--scale", "tiny")
    assert done.code == 130
    assert "Continue: mamlcli reproduce --scale tiny --dir runs/reproduce-tiny" in " ".join(done.err.split())


def test_another_plan_is_refused_with_what_differs(tmp_path, cli, pool):
    pool.stop_after = 0
    assert cli("reproduce", "--scale", "tiny", "--dir", "r").code == 130
    done = cli("reproduce", "--scale", "tiny", "--dir", "r", "--seeds", "3")
    assert done.code == 1
    assert "one look at 2 seeds there, at 3 here" in " ".join(done.err.split())


def test_unknown_scale_is_refused_with_the_nearest_name(tmp_path, cli):
    done = cli("reproduce", "--scale", "labtop")
    assert done.code == 1
    assert "Did you mean 'laptop'?" in done.err
    assert not (tmp_path / "runs").exists()
