"""Inner rates from pilots: which runs are made, what is chosen, and how a cut search goes on."""

import json
import math

import pytest

from mamlcli.common.errors import Interrupted, RunError
from mamlcli.common.processes.jobs import Outcome
from mamlcli.common.processes.pool import LocalExecutor
from mamlcli.common.statistics import Score
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import Point, RunReport, Scores
from mamlcli.studies.claims import pilots
from mamlcli.studies.claims.contrasts import CellValue
from mamlcli.studies.claims.pilots import pilot_recipe, run_pilots
from mamlcli.studies.claims.plan import Family, cell_changes
from mamlcli.training.scoring import evaluation_tasks, protocol_of
from tests.helpers.running import TINY

CHANGES = (*(change for change in TINY if not change.startswith("evaluation")), "evaluation.tasks=20")


def family(**changes):
    given = {
        "key": "linear-regression",
        "words": "linear regression",
        "role": "linear-regression",
        "recipe": "linear-regression",
        "changes": (*CHANGES, "tasks.dimension=3", "outer.iterations=4"),
        "values": (CellValue(1), CellValue(2, optimizer="kfo")),
    }
    return Family(**{**given, **changes})


def curve(depth, rate, seed):
    """The loss of a pilot: least at a rate of 1 at depth 1 and 0.1 at depth 2, up to what the seed brings."""
    return 1.0 + abs(math.log10(rate) + depth - 1) + 0.01 * seed * rate


class Here:
    """Stands in the place of the pool: writes run directories whose losses are known, without training."""

    def __init__(self, stop_after=math.inf, fail=(), diverges_above=math.inf):
        self.keys, self.stop_after, self.fail, self.diverges_above = [], stop_after, fail, diverges_above

    def __call__(self, jobs, *, on_end, **_):
        outcomes = {}
        for job in jobs:
            if len(self.keys) == self.stop_after:
                raise Interrupted("interrupted")
            self.keys.append(job.key)
            outcomes[job.key] = self._outcome(job)
            on_end(outcomes[job.key])
        return outcomes

    def _outcome(self, job):
        (cell,) = job.payload
        if any(part in job.key for part in self.fail):
            return Outcome(job.key, "failed", reason="too big", error="MemoryError", details="Traceback")
        run = RunDirectory.create(cell.path, cell.recipe, cell.recipe_name)
        if cell.recipe.inner.lr > self.diverges_above:
            return Outcome(job.key, "failed", reason="a loss is NaN", error="NonFiniteError")
        recipe = cell.recipe
        loss = curve(recipe.model.depth, recipe.inner.lr, recipe.seed)
        tasks = evaluation_tasks(recipe)
        protocol = protocol_of(recipe, split=tasks.split, num_tasks=tasks.num_tasks, num_steps=recipe.inner.steps)
        scores = Scores(loss=Score(loss, 0.1), support_loss=Score(loss, 0.1))
        references = {"posterior mean": Scores(loss=Score(0.25 + recipe.seed, 0.1))}
        report = RunReport(recipe.model.kind, "last", protocol, (Point(0, scores),), references)
        run.write_json("evaluation.json", report.to_json())
        run.update_manifest({"status": "done"})
        return Outcome(job.key, "done", {})


@pytest.fixture
def here(monkeypatch):
    def use(**how):
        runner = Here(**how)
        monkeypatch.setattr(pilots, "run_jobs", runner)
        return runner

    return use


def run(families, path, **how):
    return run_pilots(families, path, executor=LocalExecutor(1), argv=["mamlcli", "reproduce"], **how)


def rates_tried(path, slug):
    """The rates of the run directories of one value, by pilot seed."""
    names = [folder.name for folder in (path / "pilots" / "linear-regression").glob(f"{slug}-lr*")]
    parts = [name.split("-lr")[1].split("-seed-") for name in names]
    return {seed: sorted(float(rate) for rate, of_seed in parts if int(of_seed) == seed) for seed in (1, 2)}


def test_the_rate_with_the_lowest_mean_loss_over_the_pilot_seeds_is_chosen_for_each_value(here, tmp_path):
    here()
    (found,), searches = run([family(first_rates={"depth 1": 0.4})], tmp_path)
    # Depth 1: 0.2, 0.4, 0.8; 0.8 is at the end, so 1.6, which is worse; then 0.8 by sqrt 2: 0.5657 and 1.131.
    # Depth 2 begins at the recipe's 0.2: 0.1, 0.2, 0.4; 0.1 is at the end, so 0.05; then 0.0707 and 0.1414.
    tried = {"depth-1": [0.2, 0.4, 0.5657, 0.8, 1.131, 1.6], "depth-2-kfo": [0.05, 0.07071, 0.1, 0.1414, 0.2, 0.4]}
    for slug, rates in tried.items():
        assert rates_tried(tmp_path, slug) == {1: rates, 2: rates}
    # At depth 1, mean over seeds: 1 + |log10 1.131| + 0.015 * 1.131 = 1.0704, and 1 + |log10 0.8| + 0.012 = 1.1089.
    assert found.rates == {"depth 1": 1.131, "depth 2, kfo": 0.1}
    assert [search.value.key for search in searches] == ["depth 1", "depth 2, kfo"]


def test_pilots_are_scored_on_meta_validation_tasks_of_their_own_seed(here, tmp_path):
    here()
    run([family()], tmp_path)
    for folder in (tmp_path / "pilots" / "linear-regression").iterdir():
        recipe = RunDirectory.open(folder).recipe
        assert recipe.seed in (1, 2)
        assert recipe.evaluation.seed == recipe.seed
        assert recipe.evaluation.split == "validation"


def test_the_excess_is_the_shallow_models_loss_above_the_posterior_mean(here, tmp_path):
    here()
    (found,), _ = run([family()], tmp_path)
    # The floor is 1.25 and 2.25 with seeds 1 and 2.
    losses = [curve(1, found.rates["depth 1"], seed) for seed in (1, 2)]
    assert found.excess == pytest.approx((losses[0] - 1.25 + losses[1] - 2.25) / 2)


def test_weights_of_pilots_are_chosen_as_those_of_tested_cells():
    for every in (4, None):
        short = family(changes=(*CHANGES, f"validation.every={'null' if every is None else every}"))
        assert pilot_recipe(short, CellValue(1)).validation.every == every


def test_pilots_of_another_recipe_are_not_taken_for_these(here, tmp_path):
    here()
    run([family()], tmp_path)
    longer = family(changes=(*family().changes, "outer.iterations=9"))
    differs = r"a pilot of this plan.*outer\.iterations \(4 there, 9 here\)"
    with pytest.raises(RunError, match=differs):
        run([longer], tmp_path)
    for folder in (tmp_path / "pilots" / "linear-regression").iterdir():
        (folder / "diverged.json").write_text("{}")
    with pytest.raises(RunError, match=differs):
        run([longer], tmp_path)


def test_without_a_floor_there_is_no_excess(here, tmp_path):
    here()
    (found,), _ = run([family(role="maml", values=(CellValue(1),))], tmp_path)
    assert found.excess is None


def test_what_was_tried_and_chosen_is_written(here, tmp_path):
    here()
    (found,), _ = run([family()], tmp_path)
    record = json.loads((tmp_path / "pilots" / "rates.json").read_text())
    assert record["seeds"] == [1, 2]
    of_family = record["families"]["linear-regression"]
    assert of_family["excess"] == found.excess
    value = of_family["values"]["depth 1"]
    assert value["chosen"] == found.rates["depth 1"]
    assert value["start"] == 0.2
    assert [item["rate"] for item in value["tried"]] == rates_tried(tmp_path, "depth-1")[1]
    for item in value["tried"]:
        assert item["by_seed"] == {str(seed): pytest.approx(curve(1, item["rate"], seed)) for seed in (1, 2)}
        assert item["loss"] == pytest.approx(sum(item["by_seed"].values()) / 2)
    assert value["refined"] == [0.5657, 1.131]
    assert value["where_best_is"] == "inside the grid"


def test_cut_pilots_go_on_and_choose_the_same(here, tmp_path):
    here()
    whole, _ = run([family()], tmp_path / "whole")
    here(stop_after=4)
    with pytest.raises(Interrupted):
        run([family()], tmp_path / "cut")
    assert not (tmp_path / "cut" / "pilots" / "rates.json").exists()
    rest, ends = here(), []
    assert run([family()], tmp_path / "cut", on_end=ends.append)[0] == whole
    assert [end.status for end in ends].count("skipped") == 4
    assert len(rest.keys) == len(ends) - 4
    assert ends[-1].num_ended == ends[-1].num_total == len(ends)
    again = here()
    assert run([family()], tmp_path / "cut")[0] == whole
    assert not again.keys


def test_pilots_that_the_hours_do_not_reach_are_counted_and_run_by_the_next_call(here, tmp_path, monkeypatch):
    runner = here()
    deadlines = []

    def up_to_four(jobs, *, deadline, **how):
        deadlines.append(deadline)
        return runner(list(jobs)[: 4 - len(runner.keys)], **how)

    monkeypatch.setattr(pilots, "run_jobs", up_to_four)
    with pytest.raises(RunError, match=r"8 of the 12 pilots known so far still to run.*Run the same command again"):
        run([family()], tmp_path, deadline=5.0)
    assert deadlines == [5.0]
    assert not (tmp_path / "pilots" / "rates.json").exists()
    rest = here()
    (found,), _ = run([family()], tmp_path)
    assert found.rates == {"depth 1": 1.131, "depth 2, kfo": 0.1}
    assert not set(runner.keys) & set(rest.keys)


def test_a_rate_at_which_a_pilot_diverged_is_worse_than_any_other_and_not_tried_again(here, tmp_path):
    ends, wild = [], family(values=(CellValue(1),), first_rates={"depth 1": 90.0})
    here(diverges_above=0.5)
    (found,), (search,) = run([wild], tmp_path, on_end=ends.append)
    assert "diverged" in {end.status for end in ends}
    assert math.isinf(search.means[90.0])
    assert found.rates["depth 1"] == 0.4972  # 90 / 2^7.5, the largest of those tried below 0.5
    again = here()
    assert run([wild], tmp_path)[0] == [found]
    assert not again.keys


def test_where_every_rate_diverges_the_value_is_named(here, tmp_path):
    here(diverges_above=0.0)
    with pytest.raises(RunError, match="none for linear regression, depth 1, none for linear regression, depth 2, kfo"):
        run([family()], tmp_path)


def test_a_family_that_has_its_rates_needs_no_pilots(here, tmp_path):
    runner = here()
    complete = family(rates={"depth 1": 0.3, "depth 2, kfo": 0.1})
    assert run([complete], tmp_path) == ([complete], [])
    assert not runner.keys
    assert not (tmp_path / "pilots").exists()
    (found,), searches = run([family(rates={"depth 1": 0.3})], tmp_path)
    assert found.rates["depth 1"] == 0.3
    assert [search.value.key for search in searches] == ["depth 2, kfo"]


def test_a_pilot_that_fails_otherwise_is_named_and_nothing_is_chosen(here, tmp_path):
    here(fail=("kfo-lr0.4",))
    with pytest.raises(RunError, match=r"depth 2, kfo, inner lr 0\.4, seed 1: too big.*Run the same command again"):
        run([family()], tmp_path)
    assert not (tmp_path / "pilots" / "rates.json").exists()
    here()
    assert len(run([family()], tmp_path)[0][0].rates) == 2


def test_pilots_are_trained_and_scored_as_any_run(monkeypatch, tmp_path):
    def train_here(jobs, *, on_end, **_):
        # In this process: the pool is tested apart, and another one takes seconds to import torch.
        outcomes = {job.key: Outcome(job.key, "done", job.run(lambda: False)) for job in jobs}
        for outcome in outcomes.values():
            on_end(outcome)
        return outcomes

    monkeypatch.setattr(pilots, "run_jobs", train_here)
    short = family(values=(CellValue(1),), first_rates={"depth 1": 0.4})
    (found,), (search,) = run([short], tmp_path, device="cpu")
    folder = tmp_path / "pilots" / "linear-regression" / f"depth-1-lr{found.rates['depth 1']:g}-seed-2"
    report = RunDirectory.open(folder).read_report()
    assert (report.protocol.split, report.protocol.seed, report.protocol.num_tasks) == ("validation", 2, 20)
    assert search.losses[found.rates["depth 1"]][1] == report.final.mean("loss")
    assert found.excess > 0


def test_cells_differ_from_the_recipe_by_their_value_and_what_goes_with_it():
    images = family(
        recipe="glyphs-5way-1shot",
        changes=(),
        adapts=True,
        more={"depth 2": {"model.pool": 1}},
    )
    assert cell_changes(images, CellValue(2)) == {
        "model.depth": 2,
        "model.linear_layers": 0,
        "inner.transform": {"name": "none", "adapted": False},
        "model.pool": 1,
    }
    changes = cell_changes(images, CellValue(1, layers=2, optimizer="kfo", width=7))
    assert changes["inner.transform"] == {"name": "kfo", "adapted": True}
    assert (changes["model.width"], changes["model.linear_layers"]) == (7, 2)
    recipe = pilot_recipe(images, CellValue(2), "cpu")
    assert (recipe.model.depth, recipe.evaluation.split) == (2, "validation")
