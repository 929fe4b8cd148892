"""Inner learning rates are chosen here, once, on pilot seeds that are never tested.

A rate that is chosen on the seeds that are tested, and again whenever seeds are added, rewrites looks that are past:
3.6 to 5.2 % false verdicts where 2.5 % are allowed. So each value of each family is trained on two seeds of its own at
a grid of rates (`rate_search`), scored on meta-validation tasks, and the rate of the lowest mean query loss is fixed.

A pilot is an ordinary run directory, path/pilots/FAMILY/VALUE-lrRATE-seed-SEED; what was tried and chosen stands in
path/pilots/rates.json. Pilots that are done are skipped, those that were cut are resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mamlcli.common.errors import NonFiniteError, RunError
from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.processes.jobs import Job, Outcome
from mamlcli.common.processes.pool import Executor, run_jobs
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.files import load_recipe
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.contrasts import CellValue
from mamlcli.studies.claims.pilot_runs import DIVERGED, check_pilot, pilot_loss, pilot_report
from mamlcli.studies.claims.plan import PILOT_SEEDS, PILOTS, Family, cell_changes
from mamlcli.studies.claims.rate_search import chosen_rate, next_rates, refined_rates, where_best_is
from mamlcli.studies.orphans import wait_for_orphans
from mamlcli.studies.sweeps.cells import PlannedCell, run_cells
from mamlcli.studies.sweeps.collection import final_scores
from mamlcli.studies.sweeps.run import CellEnd

RATES = "rates.json"

# role -> the reference that no method beats in expectation
FLOORS = {"linear-regression": "posterior mean", "logistic": "Bayes predictive"}


@dataclass
class Search:
    """A search is that for the rate of one value of a family.

    Attributes:
        family: its family.
        value: its value.
        recipe: of its pilots, but for seeds and inner rate.
        losses: rate -> the query loss of each pilot seed, infinite where it diverged.
    """

    family: Family
    value: CellValue
    recipe: Recipe
    losses: dict[float, list[float]] = field(default_factory=dict)

    @property
    def start(self) -> float:
        """The rate that the search begins at."""
        return self.family.first_rates.get(self.value.key, self.recipe.inner.lr)

    @property
    def means(self) -> dict[float, float]:
        """The mean query loss at each rate over the pilot seeds."""
        return {rate: math.fsum(losses) / len(losses) for rate, losses in self.losses.items()}

    @property
    def chosen(self) -> float | None:
        """The best rate so far."""
        return chosen_rate(self.means, self.start)

    def to_json(self, seeds: Sequence[int]) -> dict[str, object]:
        """Return the search, when it is over, as rates.json holds it; the loss of what diverged is null."""
        means = self.means
        return {
            "start": self.start,
            "chosen": self.chosen,
            "where_best_is": where_best_is(means, self.start),
            "refined": list(refined_rates(means, self.start)),
            "tried": [
                {"rate": rate, "loss": means[rate], "by_seed": dict(zip(map(str, seeds), losses, strict=True))}
                for rate, losses in sorted(self.losses.items())
            ],
        }


def run_pilots(
    families: Sequence[Family],
    path: Path,
    *,
    executor: Executor,
    argv: Sequence[str],
    seeds: Sequence[int] = PILOT_SEEDS,
    device: str | None = None,
    deadline: float | None = None,
    on_end: Callable[[CellEnd], None] = lambda end: None,
) -> tuple[list[Family], list[Search]]:
    """Choose the inner rates that the families lack, and return the families with them, and the searches.

    A synthetic family also gets its `excess`. A family that has all its rates is returned as it is.

    Args:
        families: of a scale.
        path: of the reproduction.
        executor: runs the pilots.
        argv: the command, for the manifests.
        seeds: pilot seeds; the tasks of a pilot are drawn by its seed, too.
        device: in place of the recipes'.
        deadline: no pilot begins after it, on the clock of `time.monotonic`.
        on_end: called when a pilot ends; the total it tells is that known so far, for a search may grow.

    Raises:
        RunError: a pilot failed, or every pilot of a value diverged; a pilot there is of another recipe; the deadline
            came before a rate was found for each value; another process works on the folder. The same call again
            goes on.
        Interrupted: SIGINT or SIGTERM came; the pilots at work have saved their state.
    """
    searches = [
        Search(family, value, pilot_recipe(family, value, device))
        for family in families
        for value in family.values
        if value.key not in family.rates
    ]
    if not searches:
        return list(families), []
    folder = path / PILOTS
    folder.mkdir(parents=True, exist_ok=True)
    with RunDirectory(folder).lock():
        pilots = _Pilots(folder, searches, tuple(seeds), executor, tuple(argv), on_end, deadline)
        pilots.run()
        found = [_with_rates(family, searches, folder, seeds) for family in families]
        atomic_write(folder / RATES, json_text(_record(found, searches, seeds)).encode())
    return found, searches


def pilot_recipe(family: Family, value: CellValue, device: str | None = None) -> Recipe:
    """Return the recipe of a value's pilots: as its cells, but scored on meta-validation tasks.

    So weights are chosen by the same rule: the last ones, or the best by meta-validation where the family validates.
    """
    overrides = [*family.changes, *([f"execution.device={device}"] if device else [])]
    _, recipe = load_recipe(family.recipe, overrides)
    changes = {**cell_changes(family, value), "evaluation.split": recipe.validation_split}
    return changed_recipe(recipe, changes, f"reproduce: {family.key}, {value.key}")


@dataclass(frozen=True)
class _Pilot:
    """One run of a search."""

    search: Search
    rate: float
    seed: int

    @property
    def name(self) -> str:
        slug = self.search.value.key.replace(",", "").replace(" ", "-")
        return f"{self.search.family.key}/{slug}-lr{self.rate:g}-seed-{self.seed}"

    @property
    def recipe(self) -> Recipe:
        changes = {"seed": self.seed, "evaluation.seed": self.seed, "inner.lr": self.rate}
        return changed_recipe(self.search.recipe, changes, self.label)

    @property
    def label(self) -> str:
        value = self.search.value.key
        return f"pilot: {self.search.family.words}, {value}, inner lr {self.rate:g}, seed {self.seed}"


@dataclass
class _Pilots:
    """Runs the pilots of all searches in rounds: each has the rates that every search needs next."""

    folder: Path
    searches: Sequence[Search]
    seeds: tuple[int, ...]
    executor: Executor
    argv: tuple[str, ...]
    on_end: Callable[[CellEnd], None]
    deadline: float | None = None
    num_ended: int = 0
    num_known: int = 0

    def run(self) -> None:
        """Run rounds until every search is over."""
        while wanted := [(search, next_rates(search.means, search.start)) for search in self.searches]:
            pilots = [_Pilot(search, rate, seed) for search, rates in wanted for rate in rates for seed in self.seeds]
            if not pilots:
                break
            self._run_round(pilots)
            for search, rates in wanted:
                for rate in rates:
                    search.losses[rate] = [self._known_loss(_Pilot(search, rate, seed)) for seed in self.seeds]
        if hopeless := [search for search in self.searches if search.chosen is None]:
            raise RunError(
                str(self.folder),
                expected="an inner learning rate at which training does not diverge",
                got=", ".join(f"none for {search.family.words}, {search.value.key}" for search in hopeless),
                next_step="Change the family's recipe, or leave it out",
            )

    def _run_round(self, pilots: Sequence[_Pilot]) -> None:
        self.num_known += len(pilots)
        wait_for_orphans(self.folder / pilot.name for pilot in pilots)
        missing = []
        for pilot in pilots:
            check_pilot(self.folder / pilot.name, pilot.recipe)
            if pilot_loss(self.folder / pilot.name) is None:
                missing.append(pilot)
            else:
                self._tell(pilot, "skipped")
        by_name = {pilot.name: pilot for pilot in missing}
        outcomes = run_jobs(
            [self._job(pilot) for pilot in missing],
            executor=self.executor,
            deadline=self.deadline,
            on_end=lambda outcome: self._end(by_name[outcome.key], outcome),
        )
        is_diverged = {name: outcome.error == NonFiniteError.__name__ for name, outcome in outcomes.items()}
        failed = [name for name, outcome in outcomes.items() if outcome.status != "done" and not is_diverged[name]]
        if failed:
            raise RunError(
                str(self.folder),
                expected="pilots that end",
                got="; ".join(f"{by_name[name].label}: {outcomes[name].reason}" for name in failed),
                why="Without them no inner learning rate can be fixed, and nothing is planned",
                next_step="Run the same command again: what is done is kept",
            )
        if left := [name for name in by_name if name not in outcomes]:
            raise RunError(
                str(self.folder),
                expected="an inner learning rate for each value, from pilots, within the hours given",
                got=f"hours that are spent, with {len(left)} of the {self.num_known} pilots known so far still to run",
                why="Without the rates nothing is planned, and nothing is tested",
                next_step="Run the same command again, with more hours or with the same: what is done is kept",
            )

    def _job(self, pilot: _Pilot) -> Job:
        cell = PlannedCell(
            name=pilot.name,
            path=self.folder / pilot.name,
            recipe_name=pilot.search.family.recipe,
            recipe=pilot.recipe,
            argv=self.argv,
            num_threads=self.executor.num_threads,
        )
        return Job(pilot.name, run_cells, (cell,), hopeless=[NonFiniteError.__name__])

    def _end(self, pilot: _Pilot, outcome: Outcome) -> None:
        run, status = RunDirectory(self.folder / pilot.name), outcome.status
        if outcome.error == NonFiniteError.__name__:
            status = "diverged"
            run.write_json(DIVERGED, {"reason": outcome.reason})
        elif outcome.details and run.path.is_dir():
            atomic_write(run.path / "error.log", outcome.details.encode())
        self._tell(pilot, status, outcome.reason if status == "failed" else "", outcome.wall_s, outcome.where)

    def _tell(self, pilot: _Pilot, status: str, reason: str = "", wall_s: float = 0.0, where: str = "") -> None:
        self.num_ended += 1
        report = pilot_report(self.folder / pilot.name)
        scores = None if report is None else final_scores(report)
        self.on_end(CellEnd(pilot.label, status, self.num_ended, self.num_known, scores, reason, wall_s, where))

    def _known_loss(self, pilot: _Pilot) -> float:
        loss = pilot_loss(self.folder / pilot.name)
        assert loss is not None
        return loss


def _with_rates(family: Family, searches: Sequence[Search], folder: Path, seeds: Sequence[int]) -> Family:
    mine = [search for search in searches if search.family is family]
    if not mine:
        return family
    rates = dict(family.rates) | {search.value.key: search.chosen for search in mine if search.chosen is not None}
    shallow = min((search for search in mine if _is_plain(search.value)), key=lambda s: s.value.depth, default=None)
    excess = None if shallow is None else _excess(shallow, folder, seeds)
    return replace(family, rates=rates, excess=family.excess if excess is None else excess)


def _is_plain(value: CellValue) -> bool:
    return value.layers == 0 and value.optimizer == "none" and value.width is None


def _excess(shallow: Search, folder: Path, seeds: Sequence[int]) -> float | None:
    """Return the query loss above the floor at the chosen rate, the mean over pilot seeds; None without a floor."""
    assert shallow.chosen is not None
    reports = [pilot_report(folder / _Pilot(shallow, shallow.chosen, seed).name) for seed in seeds]
    floor = FLOORS.get(shallow.family.role, "")
    known = [report for report in reports if report is not None and floor in report.references]
    if len(known) < len(reports):
        return None
    above = [report.final.mean("loss") - report.references[floor].mean("loss") for report in known]
    return math.fsum(above) / len(above)


def _record(families: Sequence[Family], searches: Sequence[Search], seeds: Sequence[int]) -> Mapping[str, object]:
    """Return the content of rates.json."""
    by_family: dict[str, object] = {}
    for family in families:
        values = {search.value.key: search.to_json(seeds) for search in searches if search.family.key == family.key}
        if values:
            by_family[family.key] = {"excess": family.excess, "values": values}
    return {"seeds": list(seeds), "score": "query loss on meta-validation tasks", "families": by_family}
