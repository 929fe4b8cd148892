"""Looks of a plan: which cells each needs, when it ends, and what the rest would cost."""

import json
import time
from dataclasses import replace

import pytest

from mamlcli.common.errors import Interrupted, RunError
from mamlcli.common.processes.pool import LocalExecutor
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims import costs
from mamlcli.studies.claims.costs import with_costs
from mamlcli.studies.claims.decisions import HOLDS, NO_EFFECT, UNDECIDED, one_look
from mamlcli.studies.claims.files import write_report
from mamlcli.studies.claims.looks import Extent, Machine, failure_before, num_begun, take_looks, without_gaps
from mamlcli.studies.claims.plan import OpenedPlan
from mamlcli.studies.claims.reproduction import runs_of
from tests.helpers.reproductions import LINREG, PACKED, Pool, Scores, opened, tiny_plan

# At two seeds the t threshold of the tiny plan is 25.5: differences of 1.0 and 1.001 hold, 1.0 and 1.1 do not.


def clear(study, value, seed):
    return 2.0 if value == "depth 1" else 1.0 + 1e-3 * (seed % 2)


def logistic_is_open(study, value, seed):
    """Linear regression is decided at the first look; logistic regression at the second."""
    if study == "linear-regression" or value == "depth 1":
        return clear(study, value, 0) if value == "depth 1" else 1.0 - 1e-3 * (seed % 2)
    return 1.0 + 0.1 * (seed % 2)


@pytest.fixture
def taken(tmp_path, monkeypatch):
    """Take looks with scores made by hand: `taken(loss, until_decided=True)` -> (reproduction, scores, looks)."""

    def take(loss, *, plan=None, fails=(), scores=None, machine=None, **extent):
        scores = scores or Scores(monkeypatch, loss, fails)
        ended = []
        how = machine or Machine(LocalExecutor(2), on_look=ended.append)
        done = take_looks(opened(plan or tiny_plan()), tmp_path, Extent(**extent), how)
        return done, scores, ended

    return take


def seeds_of(scores, study, value):
    return [seed for name, of_value, seed in scores.trained if (name, of_value) == (study, value)]


def verdicts(done):
    return {claim.id: claim.verdict for claim in done.claims}


def test_only_the_first_look_is_taken_unless_asked_for_more(taken):
    done, scores, ended = taken(logistic_is_open)
    assert done.look == len(ended) == 1
    assert verdicts(done)["C1"] == UNDECIDED
    assert {seed for _, _, seed in scores.trained} == {100, 101}


def test_a_later_look_adds_seeds_to_the_cells_of_open_predictions_alone(taken):
    done, scores, ended = taken(logistic_is_open, until_decided=True)
    assert [verdicts(look)["C1"] for look in ended] == [UNDECIDED, HOLDS]
    assert seeds_of(scores, "logistic", "depth 3") == [100, 101, 102, 103]
    assert seeds_of(scores, "linear-regression", "depth 2") == [100, 101]
    by_look = {row.contrast.study: row.decision.look for row in done.claims[0].deciding}
    assert by_look == {"linear-regression": 1, "logistic": 2}


def test_no_look_follows_when_all_is_decided(taken):
    done, _, ended = taken(clear, until_decided=True)
    assert len(ended) == 1
    assert verdicts(done)["C1"] == HOLDS
    assert done.next_seeds is None


def test_no_look_goes_beyond_the_most_seeds(taken):
    done, _, ended = taken(logistic_is_open, until_decided=True, max_seeds=3)
    assert [look.look for look in ended] == [1]
    assert done.next_seeds == 4


def test_the_rest_is_counted_in_seeds_and_in_hours_of_the_cells(taken):
    done, _, _ = taken(logistic_is_open)
    # Both cells of logistic regression lack two seeds, at 10 and 30 s each, two at a time.
    assert done.next_hours == pytest.approx(2 * (10 + 30) / 2 / 3600)
    row = next(row for row in done.claims[0].deciding if row.contrast.study == "logistic")
    rest = done.rest[row.contrast.key]
    assert rest.seeds == row.decision.seeds_needed > 2
    assert rest.hours == pytest.approx((rest.seeds - 2) * (10 + 30) / 2 / 3600)
    decided = {row.contrast.key for row in done.claims[0].deciding if row.contrast.study == "linear-regression"}
    assert decided
    assert not decided & set(done.rest)


def test_a_prediction_without_relevant_effect_stays_open_until_its_claim_is_decided(taken):
    def alike(study, value, seed):
        return 1.0 + (1e-4 * (seed % 2) if value == "depth 1" else 0.0)

    done, _, _ = taken(alike)
    assert {row.decision.verdict for row in done.claims[0].deciding} == {NO_EFFECT}
    # Holm's level for the first of 8 p-values is 0.003; equal losses reach it, so C1 itself is decided.
    assert verdicts(done)["C1"] in (NO_EFFECT, UNDECIDED)
    assert bool(done.rest) == (verdicts(done)["C1"] == UNDECIDED)


def test_a_cell_that_failed_leaves_its_claim_undecided_and_is_named_until_it_is_mended(taken):
    plan = tiny_plan(families=(LINREG,))
    fails = [("linear-regression", "depth 2", 101)]
    done, scores, ended = taken(clear, plan=plan, fails=fails, until_decided=True)
    assert (done.look, len(ended)) == (1, 1)
    assert done.failures == ("linear regression, depth 2, seed 101: killed",)
    words = "undecided: cell linear regression, depth 2, seed 101 failed"
    assert {claim.id: claim.verdict_words for claim in done.claims if claim.failed} == {"C1": words, "C7": words}
    assert done.not_done == ("1 of the 4 runs of the look at 2 seeds", "linear regression: 1")
    # Once it is mended the look is whole, with the planned seeds.
    scores.fails.clear()
    done, _, _ = taken(clear, plan=plan, scores=scores, until_decided=True)
    assert done.look == 1
    assert len(done.claims[0].deciding[0].decision.prediction.differences) == 2


def test_a_cell_that_always_fails_ends_no_loop_and_the_other_claims_are_decided(taken):
    def c7_is_decided_late(study, value, seed):
        return (
            1.0 + 0.1 * (seed % 2) if study == "linear-regression" and value == "depth 2" else clear(study, value, seed)
        )

    done, scores, ended = taken(c7_is_decided_late, fails=[("logistic", "depth 3", 100)], until_decided=True)
    assert [look.look for look in ended] == [1, 2]
    by_id = {claim.id: claim for claim in done.claims}
    assert by_id["C1"].verdict_words == "undecided: cell logistic regression, depth 3, seed 100 failed"
    assert (by_id["C7"].verdict, by_id["C7"].failed) == (HOLDS, ())
    # The claim that waits gets no more seeds, and what failed is tried once in a call.
    assert seeds_of(scores, "logistic", "depth 1") == [100, 101]
    assert len(done.failures) == 1


def test_a_run_that_failed_in_an_earlier_call_is_named_by_its_manifest(tmp_path):
    _, recipe = load_recipe("linear-regression", [])
    run = RunDirectory.create(tmp_path / "run", recipe, "x")
    assert failure_before(run.path) == failure_before(tmp_path / "none") == ""
    run.write_json("manifest.json", {**run.manifest.to_json(), "status": "failed", "reason": "no memory"})
    assert failure_before(run.path) == "no memory"


def test_seeds_behind_a_gap_are_in_no_look():
    scores = {"loss": {"a": {100: 1.0, 101: 2.0, 103: 9.0}, "b": {101: 1.0}}}
    assert without_gaps(scores, 100) == {"loss": {"a": {100: 1.0, 101: 2.0}, "b": {}}}


def test_a_reproduction_goes_on_where_it_was_and_comes_to_the_same(taken):
    whole, scores, _ = taken(logistic_is_open, until_decided=True)
    num_trained = len(scores.trained)
    again, _, ended = taken(logistic_is_open, scores=scores, until_decided=True)
    assert len(scores.trained) == num_trained
    assert [look.look for look in ended] == [1, 2]
    assert verdicts(again) == verdicts(whole)
    # Without the option nothing more is run, and the look that was taken is not forgotten.
    bare, _, _ = taken(logistic_is_open, scores=scores)
    assert bare.look == 2
    assert verdicts(bare) == verdicts(whole)


def test_hours_that_are_spent_end_it_and_are_named(taken):
    class Late(Scores):
        def run_sweep(self, sweep, path, *, is_wanted, deadline=None, **options):
            assert deadline is not None
            return super().run_sweep(sweep, path, is_wanted=lambda cell: cell.seed < 101, **options)

    def late(monkeypatch, loss, fails=()):
        return Late(monkeypatch, loss, fails)

    with pytest.MonkeyPatch.context() as patch:
        scores = late(patch, clear)
        done, _, ended = taken(clear, scores=scores, until_decided=True, deadline=time.monotonic() - 1)
    assert (done.look, len(ended)) == (0, 1)
    assert any("look at 2 seeds was complete" in words for words in done.deviations)
    assert verdicts(done)["C1"] == UNDECIDED


def test_without_a_finished_run_every_claim_is_undecided_and_a_report_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("mamlcli.studies.sweeps.run.run_jobs", lambda jobs, **_: {})  # as after the deadline
    extent = Extent(until_decided=True, deadline=time.monotonic() - 1)
    done = take_looks(opened(tiny_plan()), tmp_path, extent, Machine(LocalExecutor(1)))
    assert done.look == 0
    assert [study.scores for study in done.studies] == [{}, {}]
    assert set(verdicts(done).values()) == {UNDECIDED}
    assert (done.next_seeds, done.new_plan, done.wall_s) == (None, None, 0)
    write_report(tmp_path, done)
    assert "C1: undecided" in (tmp_path / "report.md").read_text()


def test_a_family_that_fails_leaves_the_others_decided(tmp_path, monkeypatch, one_thread):
    pool = Pool()

    def run_jobs(jobs, **options):
        return pool([] if jobs and "depth-3" in str([job.key for job in jobs]) else jobs, **options)

    monkeypatch.setattr("mamlcli.studies.sweeps.run.run_jobs", run_jobs)
    done = take_looks(opened(tiny_plan()), tmp_path, Extent(), Machine(LocalExecutor(1)))
    of_linreg, of_logistic = done.studies
    assert set(of_linreg.scores["loss"]) == {"depth 1", "depth 2"}
    assert of_logistic.scores == {}
    assert done.look == 0
    open_ones = {row.contrast.study: row.decision.look for claim in done.claims for row in claim.rows}
    assert open_ones["linear-regression"] == 1


@pytest.mark.parametrize("text", ["{", "[1]", "{}", "null"])
def test_a_damaged_study_file_is_named_with_what_to_do(tmp_path, text):
    assert num_begun(tmp_path / "study.json") == 0
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(RunError, match=r"Restore the file, or move .* away"):
        num_begun(tmp_path / "study.json")


def test_with_the_last_look_spent_a_new_plan_on_other_seeds_is_counted_whole(taken):
    def loss(study, value, seed):
        return 1.0 + 0.5 * (seed % 2) if (study, value) == ("logistic", "depth 3") else clear(study, value, seed)

    done, _, _ = taken(loss, plan=tiny_plan(looks_of_plan=one_look(2)))
    row = next(row for row in done.claims[0].deciding if row.contrast.study == "logistic")
    rest = done.rest[row.contrast.key]
    assert rest.is_new_plan
    # All its seeds, at 10 and 30 s, two at a time: those that were seen do not count.
    assert rest.hours == pytest.approx(rest.seeds * (10 + 30) / 2 / 3600)
    practical = [other.seeds for other in done.rest.values() if other.is_practical]
    assert (done.new_plan.seeds, done.new_plan.first_seed) == (max(practical), 102)
    # The plan has all cells: 10 and 20 s of linear regression, too.
    assert done.new_plan.hours == pytest.approx(max(practical) * (10 + 20 + 10 + 30) / 2 / 3600)
    assert f"--seeds {max(practical)} --first-seed 102 --dir NEW" in done.new_plan.command


def test_with_an_edited_plan_nothing_is_run_and_the_report_says_so(tmp_path, monkeypatch):
    scores, plan = Scores(monkeypatch, clear), tiny_plan()
    take_looks(opened(plan), tmp_path, Extent(), Machine(LocalExecutor(1)))
    num_trained = len(scores.trained)
    edited = OpenedPlan(replace(plan, looks=one_look(4)), plan.digest)
    done = take_looks(edited, tmp_path, Extent(until_decided=True), Machine(LocalExecutor(1)))
    assert len(scores.trained) == num_trained
    assert "changed after it was registered" in done.deviations[0]
    assert verdicts(done)["C1"] == UNDECIDED


def test_a_family_whose_pack_is_gone_is_left_and_named(taken):
    done, scores, _ = taken(clear, plan=tiny_plan(families=(LINREG, PACKED)))
    assert {name for name, _, _ in scores.trained} == {"linear-regression"}
    assert done.look == 1
    assert any("its pack is not here any more" in words for words in done.deviations)


def test_costs_are_unknown_where_nothing_was_measured(taken, monkeypatch):
    done, _, _ = taken(logistic_is_open)
    monkeypatch.setattr(costs, "seconds_of_values", lambda study: {})
    assert with_costs(done, num_processes=1).next_hours == 0.0


def test_a_cut_reproduction_is_trained_to_the_end_of_one_that_was_not(tmp_path, monkeypatch, one_thread):
    plan, machine = tiny_plan(families=(LINREG,)), Machine(LocalExecutor(1), argv=["mamlcli"], command="again")
    results = {}
    for name, stop_after in (("cut", 1), ("whole", 10**6)):
        pool = Pool(stop_after)
        monkeypatch.setattr("mamlcli.studies.sweeps.run.run_jobs", pool)
        if name == "cut":
            with pytest.raises(Interrupted):
                take_looks(opened(plan), tmp_path / name, Extent(until_decided=True), machine)
            pool.stop_after = 10**6
        results[name] = take_looks(opened(plan), tmp_path / name, Extent(until_decided=True), machine)
    for cut, whole in zip(results["cut"].claims, results["whole"].claims, strict=True):
        assert cut.verdict == whole.verdict
        for mine, other in zip(cut.rows, whole.rows, strict=True):
            assert mine.decision.interval == other.decision.interval
            assert mine.decision.prediction.differences.tolist() == other.decision.prediction.differences.tolist()
    assert results["whole"].look == 2  # a few meta-iterations leave something open at the first
    assert results["whole"].deviations[0].startswith("8 runs with mamlcli")  # the plan's version is made up
    recipes = [run.recipe for run in runs_of(results["whole"].studies[0])]
    assert {recipe.seed for recipe in recipes} == {100, 101, 102, 103}
    assert all(recipe.evaluation.seed == recipe.seed for recipe in recipes)
    assert json.loads((tmp_path / "whole/linear-regression/study.json").read_text())["seeds"] == [100, 101, 102, 103]
