"""Reproductions of a tiny scale: with trainings of a moment in this process, or with scores made by hand."""

from dataclasses import replace

from mamlcli.common.errors import Interrupted
from mamlcli.common.processes.jobs import Outcome, failure
from mamlcli.studies.claims import costs, looks
from mamlcli.studies.claims.claims import contrasts_of
from mamlcli.studies.claims.contrasts import CAPPED_LOSS, LOG_ODDS, LOSS, OPERATOR, CellValue
from mamlcli.studies.claims.decisions import Looks, one_look
from mamlcli.studies.claims.plan import PILOT_SEEDS, Family, OpenedPlan, Plan
from mamlcli.studies.claims.predictions import Study
from mamlcli.studies.claims.scales import Scale
from mamlcli.studies.sweeps.sweep import cells_of
from tests.helpers.studies import grid_result

CHANGES = (
    "tasks.dimension=3",
    "tasks.shots=8",
    "tasks.queries=8",
    "outer.iterations=2",
    "outer.tasks=2",
    "validation.every=null",
    "evaluation.tasks=12",
    "inner.steps=1",
)
LINREG = Family(
    key="linear-regression",
    words="linear regression",
    role="linear-regression",
    recipe="linear-regression",
    changes=CHANGES,
    values=(CellValue(1), CellValue(2)),
    rates={"depth 1": 0.1, "depth 2": 0.2},
    excess=0.4,
)
LOGISTIC = replace(LINREG, key="logistic", words="logistic regression", role="logistic", recipe="logistic")
LOGISTIC = replace(LOGISTIC, values=(CellValue(1), CellValue(3)), rates={"depth 1": 0.1, "depth 3": 0.2})
PACKED = replace(LINREG, key="other", words="other regression", pack="no-such-pack")
TWO_LOOKS = Looks((2, 4), (0.0125, 0.0125))


def tiny_scale(**changes):
    """A scale of both synthetic families with rates, one look at 2 seeds, and an optional family."""
    scale = Scale("tiny", "a moment", one_look(2), (LINREG, LOGISTIC), {"more": (replace(LINREG, key="more"),)})
    return replace(scale, **changes)


def tiny_plan(families=(LINREG, LOGISTIC), looks_of_plan=TWO_LOOKS, **changes):
    plan = Plan(
        scale="tiny",
        words="a moment",
        looks=looks_of_plan,
        first_seed=100,
        pilot_seeds=PILOT_SEEDS,
        families=tuple(families),
        left_out=(),
        contrasts=contrasts_of(families),
        versions={"mamlcli": "0"},
        created="2026-01-01T00:00:00+00:00",
    )
    return replace(plan, **changes)


def opened(plan):
    return OpenedPlan(plan, plan.digest)


class Pool:
    """Stands in the place of the pool: runs jobs in this process, up to a number of them."""

    def __init__(self, stop_after=10**6):
        self.num_jobs, self.stop_after = 0, stop_after

    def __call__(self, jobs, *, on_start=lambda job, pid: None, on_end=lambda outcome: None, **_):
        outcomes = {}
        for job in jobs:
            if self.num_jobs == self.stop_after:
                raise Interrupted("interrupted")
            self.num_jobs += 1
            on_start(job, 0)
            try:
                outcome = Outcome(job.key, "done", job.run(lambda: False), wall_s=1.0)
            except Exception as error:
                outcome = Outcome(job.key, "failed", **failure(error))
            outcomes[job.key] = outcome
            on_end(outcome)
        return outcomes


class Scores:
    """Stands in the place of sweeps: a cell that is wanted has a score at once, from a function of value and seed."""

    def __init__(self, monkeypatch, loss, fails=()):
        self.loss, self.fails, self.trained = loss, set(fails), []
        self._done = {}
        monkeypatch.setattr(looks, "run_sweep", self.run_sweep)
        monkeypatch.setattr(looks, "study_of_family", self.study_of_family)
        monkeypatch.setattr(looks, "check_sweep", lambda sweep, **_: None)
        monkeypatch.setattr(
            costs, "seconds_of_values", lambda study: {"depth 1": 10.0, "depth 2": 20.0, "depth 3": 30.0}
        )

    def run_sweep(self, sweep, path, *, is_wanted, deadline=None, **_):
        failures = []
        done = self._done.setdefault(path.name, {})
        for cell in cells_of(sweep):
            name = (path.name, cell.value.label, cell.seed)
            if not is_wanted(cell) or (cell.value.label, cell.seed) in done:
                continue
            if name in self.fails:
                failures.append((cell.label, "killed"))
                continue
            self.trained.append(name)
            done[cell.value.label, cell.seed] = self.loss(*name)
        return replace(
            grid_result(), cells=(), directory=str(path), seeds=sweep.seeds, failures=tuple(failures), references={}
        )

    def study_of_family(self, family, result):
        by_value = {}
        for (value, seed), loss in self._done[family.key].items():
            if seed in result.seeds:
                by_value.setdefault(value, {})[seed] = loss
        better = {value: {seed: -loss for seed, loss in of.items()} for value, of in by_value.items()}
        scores = {LOSS: by_value, CAPPED_LOSS: by_value, LOG_ODDS: better, OPERATOR: by_value}
        return Study(family.key, family.words, family.role, scores, result)
