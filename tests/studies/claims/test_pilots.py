"""Inner rates from pilots: which runs are made, what is chosen, and how a cut search goes on."""

import json
import math

import pytest

from mamlcli.common.errors import Interrupted, NonFiniteError, RunError
from mamlcli.common.processes import pool
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims import pilots
from mamlcli.studies.claims.contrasts import CellValue
from mamlcli.studies.claims.pilots import cell_changes, pilot_recipe, run_pilots
from mamlcli.studies.claims.plan import Family
from tests.helpers.running import TINY

CHANGES = tuple(change for change in TINY if not change.startswith("evaluation")) + ("evaluation.tasks=20",)


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


class Here:
    """Runs jobs in this process: importing torch in another one takes seconds."""

    def __init__(self, stop_after=math.inf, fail=()):
        self.keys, self.stop_after, self.fail = [], stop_after, fail

    def __call__(self, jobs, *, num_processes, hopeless=(), on_end, **_):
        outcomes = {}
        for job in jobs:
            if len(self.keys) == self.stop_after:
                raise Interrupted("interrupted")
            self.keys.append(job.key)
            outcomes[job.key] = self._outcome(job)
            on_end(outcomes[job.key])
        return outcomes

    def _outcome(self, job):
        try:
            if any(part in job.key for part in self.fail):
                raise MemoryError("too big")
            return pool.Outcome(job.key, "done", job.run(lambda: False))
        except NonFiniteError as error:
            return pool.Outcome(job.key, "failed", reason=str(error), error="NonFiniteError")
        except MemoryError as error:
            return pool.Outcome(job.key, "failed", reason=str(error), error="MemoryError")


@pytest.fixture
def here(monkeypatch):
    def use(**how):
        runner = Here(**how)
        monkeypatch.setattr(pilots, "run_jobs", runner)
        return runner

    return use


def run(families, path, **how):
    return run_pilots(families, path, num_processes=1, argv=["mamlcli", "reproduce"], **how)


def losses(path, value, seed):
    """The losses in the run directories, by rate."""
    found = {}
    for folder in (path / "pilots" / "linear-regression").glob(f"{value}-lr*-seed-{seed}"):
        rate = float(folder.name.split("-lr")[1].split("-seed")[0])
        found[rate] = RunDirectory.open(folder).read_report().final.mean("loss")
    return found


def test_the_rate_with_the_lowest_loss_over_both_pilot_seeds_is_chosen_for_each_value(here, tmp_path):
    here()
    (found,), searches = run([family(first_rates={"depth 1": 0.4})], tmp_path)
    assert set(found.rates) == {"depth 1", "depth 2, kfo"}
    for value, slug in (("depth 1", "depth-1"), ("depth 2, kfo", "depth-2-kfo")):
        first, second = (losses(tmp_path, slug, seed) for seed in (1, 2))
        means = {rate: (first[rate] + second[rate]) / 2 for rate in first}
        assert found.rates[value] == min(means, key=means.get)
        assert set(first) == set(second)
        assert len(first) >= 5  # three of the grid and two around the best
    assert {0.2, 0.4, 0.8} <= set(losses(tmp_path, "depth-1", 1))
    assert {0.1, 0.2, 0.4} <= set(losses(tmp_path, "depth-2-kfo", 1))  # around the recipe's own
    assert [search.value.key for search in searches] == ["depth 1", "depth 2, kfo"]


def test_pilots_are_scored_on_meta_validation_tasks_of_their_own_seed(here, tmp_path):
    here()
    run([family()], tmp_path)
    for folder in (tmp_path / "pilots" / "linear-regression").iterdir():
        opened = RunDirectory.open(folder)
        recipe, protocol = opened.recipe, opened.read_report().protocol
        assert recipe.seed in (1, 2)
        assert protocol.seed == recipe.seed == recipe.evaluation.seed
        assert protocol.split == "validation"
        assert recipe.validation.every is None


def test_the_excess_is_the_shallow_models_loss_above_the_posterior_mean(here, tmp_path):
    here()
    (found,), _ = run([family()], tmp_path)
    rate, folder = found.rates["depth 1"], tmp_path / "pilots" / "linear-regression"
    reports = [RunDirectory.open(folder / f"depth-1-lr{rate:g}-seed-{seed}").read_report() for seed in (1, 2)]
    above = [r.final.mean("loss") - r.references["posterior mean"].mean("loss") for r in reports]
    assert found.excess == pytest.approx(sum(above) / 2)
    assert found.excess > 0


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
    first, second = losses(tmp_path, "depth-1", 1), losses(tmp_path, "depth-1", 2)
    assert {item["rate"]: item["by_seed"] for item in value["tried"]} == {
        rate: {"1": first[rate], "2": second[rate]} for rate in first
    }
    assert len(value["refined"]) == 2
    assert "grid" in value["where_best_is"] or "bound" in value["where_best_is"]


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


def test_a_rate_at_which_a_pilot_diverged_is_worse_than_any_other_and_not_tried_again(here, tmp_path):
    # Float32 overflows within a few inner steps at such rates.
    wild = family(
        values=(CellValue(1),), first_rates={"depth 1": 90.0}, changes=(*family().changes, "inner.steps=40")
    )
    here()
    ends = []
    (found,), (search,) = run([wild], tmp_path, on_end=ends.append)
    assert "diverged" in {end.status for end in ends}
    assert math.isinf(search.means[90.0])
    assert found.rates["depth 1"] < 10
    again = here()
    assert run([wild], tmp_path)[0] == [found]
    assert not again.keys


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


def test_pilots_run_in_processes(tmp_path):
    (found,), _ = run_pilots([family(values=(CellValue(1),))], tmp_path, num_processes=2, argv=[], device="cpu")
    assert found.rates


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
    assert (recipe.model.depth, recipe.evaluation.split, recipe.validation.every) == (2, "validation", None)
