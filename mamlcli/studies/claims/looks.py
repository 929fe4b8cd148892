"""The looks of a plan are taken here: the cells that each needs are run, then every claim is decided.

At the first look every cell is run; at a later one only those of open predictions. It ends when all is decided, when
no look is left, or when the hours are spent. A cell that failed leaves the claims that it serves as they are; the
others go on. The same call on the same folder goes on, and tries again what failed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mamlcli.common.errors import RunError
from mamlcli.common.processes.pool import Executor, LocalExecutor
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.search import is_run
from mamlcli.studies.claims.claims import decide_claims
from mamlcli.studies.claims.contrasts import LOSS, Scores
from mamlcli.studies.claims.costs import with_costs
from mamlcli.studies.claims.deviations import deviations
from mamlcli.studies.claims.evidence import is_diverged, study_of_family
from mamlcli.studies.claims.frozen import changed_recipes
from mamlcli.studies.claims.plan import PLAN_FILE, Family, OpenedPlan, Plan
from mamlcli.studies.claims.predictions import FailedCell, Study
from mamlcli.studies.claims.premise import premise_jobs, read_premise
from mamlcli.studies.claims.reproduction import Reproduction, all_values, open_values, seconds_of_parts, sweep_of
from mamlcli.studies.sweeps.folder import open_study
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.run import CellEnd, run_sweep
from mamlcli.studies.sweeps.sweep import Cell, Sweep, cells_of, check_sweep
from mamlcli.tasks.images.packs import find_pack


@dataclass(frozen=True)
class Extent:
    """An extent says how far a reproduction is to go.

    Attributes:
        until_decided: whether all looks of the plan may be taken; else the first alone.
        max_seeds: no look beyond this.
        deadline: of `time.monotonic`; no run begins later.
        reads_only: whether nothing is run: what is there is decided, as far as it was begun.
    """

    until_decided: bool = False
    max_seeds: int | None = None
    deadline: float | None = None
    reads_only: bool = False

    def looks(self, plan: Plan) -> tuple[int, ...]:
        """Return the numbers of seeds of the looks that may be taken."""
        seeds = plan.looks.seeds if self.until_decided else plan.looks.seeds[:1]
        return tuple(num for num in seeds if self.max_seeds is None or num <= self.max_seeds)

    @property
    def is_spent(self) -> bool:
        """Whether the time is over."""
        return self.deadline is not None and time.monotonic() > self.deadline


@dataclass(frozen=True)
class Machine:
    """A machine says how the runs of a reproduction are made, and who is told.

    Attributes:
        executor: makes the runs.
        device: where to compute; by default what the recipes say.
        argv: the command, for the manifests.
        command: what continues the reproduction, for the study.json of each study.
        on_family: called when a family is gone through, with its sweep.
        on_end: called when a run ends.
        on_look: called after each look, with what is decided.
    """

    executor: Executor
    device: str | None = None
    argv: Sequence[str] = ()
    command: str = ""
    on_family: Callable[[Family, Sweep], None] = lambda family, sweep: None
    on_end: Callable[[CellEnd], None] = lambda end: None
    on_look: Callable[[Reproduction], None] = lambda done: None


def take_looks(opened: OpenedPlan, path: Path, extent: Extent, machine: Machine) -> Reproduction:
    """Run what is missing of a plan, look by look, and decide every claim.

    With a plan that was edited nothing is run: what is there is read and decided, and the first deviation says so.

    Raises:
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    reproduction = _Reproduction(opened, path, extent, machine)
    reproduction.check()
    done = None
    for look in range(1, len(reproduction.seeds_to_look_at()) + 1):
        done = reproduction.take(look, done)
        machine.on_look(done)
        if done.next_seeds is None or done.look < look:
            break
    assert done is not None, "a request has at least one look"
    return done


@dataclass
class _Reproduction:
    """Runs the families of a plan, and keeps which values had to be run up to which seeds."""

    opened: OpenedPlan
    path: Path
    extent: Extent
    machine: Machine
    wanted_seeds: dict[tuple[str, str], int] = field(default_factory=dict)  # (family, value) -> seeds
    failed: dict[tuple[str, str], list[FailedCell]] = field(default_factory=dict)  # (family, value) -> its cells

    def __post_init__(self) -> None:
        families = self.opened.plan.families
        self.absent = [family for family in families if family.pack is not None and find_pack(family.pack) is None]

    def _is_run(self, family: Family) -> bool:
        return family not in self.absent and not self.opened.is_edited and not self.extent.reads_only

    def check(self) -> None:
        """Refuse what cannot run before anything does, and what would not be the plan's."""
        families = [family for family in self.opened.plan.families if self._is_run(family)]
        if families and (changed := changed_recipes(self.opened.plan)):
            raise RunError(
                str(self.path / PLAN_FILE),
                expected="the recipes that the plan was registered with",
                got=f"others in this version of mamlcli: {'; '.join(changed)}",
                why="Runs of two recipes would be compared as if they were of one",
                next_step=f"Go on with {code_words(self.opened.plan)}, or begin a new plan: name another --dir",
            )
        for family in families:
            check_sweep(self._sweep(family, 1), is_here=isinstance(self.machine.executor, LocalExecutor))

    def _sweep(self, family: Family, num_seeds: int) -> Sweep:
        plan = self.opened.plan
        return sweep_of(
            family,
            first_seed=plan.first_seed,
            num_seeds=num_seeds,
            control_tasks=plan.control_tasks(family),
            device=self.machine.device,
        )

    def seeds_to_look_at(self) -> list[int]:
        """Return the numbers of seeds of the looks that may be taken, and of those that were begun before."""
        plan = self.opened.plan
        begun = max(num_begun(self.path / family.key / "study.json") for family in plan.families)
        allowed = self.extent.looks(plan)
        return [num for num in plan.looks.seeds if num in allowed or num <= begun]

    def take(self, look: int, before: Reproduction | None) -> Reproduction:
        """Take one look: run the cells that it needs, where it may be taken, and decide every claim."""
        plan, num_seeds = self.opened.plan, self.opened.plan.looks.seeds[look - 1]
        needed = all_values(plan.families) if before is None else open_values(before.claims)
        if num_seeds in self.extent.looks(plan):
            self.wanted_seeds |= dict.fromkeys(needed, num_seeds)
        studies = [
            self._run(family, num_seeds)
            for family in plan.families
            if self._is_run(family) or (self.path / family.key / "study.json").is_file()
        ]
        claims = tuple(decide_claims(plan, studies, self.failed))
        missing = self._missing(studies, needed, num_seeds)
        is_complete = not missing.keys() - self.failed.keys()
        done = Reproduction(
            plan,
            claims,
            tuple(studies),
            deviations(self.opened, self.path, self.absent, self._unfinished(num_seeds, is_complete)),
            tuple(cell.words for cells in self.failed.values() for cell in cells),
            look=look if is_complete else (before.look if before is not None else 0),
            not_done=not_done_words(plan, missing, len(needed), num_seeds),
            wall_s=sum(seconds_of_parts(self.path, studies).values()),
        )
        return with_costs(done, num_processes=self.machine.executor.num_processes)

    def _run(self, family: Family, num_seeds: int) -> Study:
        sweep, folder = self._sweep(family, num_seeds), self.path / family.key
        if self._is_run(family):
            open_study(folder, sweep, self.machine.command)
        self.machine.on_family(family, sweep)
        first = self.opened.plan.first_seed

        def is_wanted(cell: Cell) -> bool:
            key = (family.key, cell.value.label)
            # What diverged would do so again, bit for bit; it scores as guessing does.
            is_open = cell.seed < first + self.wanted_seeds.get(key, 0) and not _has_diverged(folder, cell)
            # What failed is tried again by another call, not at every look.
            return self._is_run(family) and is_open and key not in self.failed

        result = run_sweep(
            sweep,
            folder,
            executor=self.machine.executor,
            argv=self.machine.argv,
            on_end=self.machine.on_end,
            is_wanted=is_wanted,
            deadline=self.extent.deadline,
            extra_jobs=premise_jobs(sweep, folder, self.opened.plan.amounts)
            if family.role == "maml" and self._is_run(family)
            else [],
        )
        study = replace(study_of_family(family, result), premises=read_premise(folder))
        study = replace(study, scores=without_gaps(study.scores, first))
        self._note_failures(family, sweep, result)
        return study

    def _note_failures(self, family: Family, sweep: Sweep, result: StudyResult) -> None:
        """Keep which cells failed, in this call or in the one before, and why; not those that diverged."""
        folder, reasons = self.path / family.key, dict(result.failures)
        for cell in cells_of(sweep):
            reason = reasons.pop(cell.label, "") or failure_before(folder / "cells" / cell.name)
            if reason and not _has_diverged(folder, cell):
                self._note_failure(family, cell.value.label, cell.label, reason)
        # What is no cell, as the premise of C2, serves no prediction.
        for label, reason in reasons.items():
            self._note_failure(family, label, label, reason)

    def _note_failure(self, family: Family, value: str, label: str, reason: str) -> None:
        cells, failed = self.failed.setdefault((family.key, value), []), f"{family.words}, {label}"
        if failed not in [cell.name for cell in cells]:
            cells.append(FailedCell(failed, reason))

    def _missing(
        self, studies: Sequence[Study], needed: Collection[tuple[str, str]], num_seeds: int
    ) -> dict[tuple[str, str], int]:
        """Return how many scores of a look the cells of each value lack, but for families whose pack is gone."""
        scores = {study.key: study.scores.get(LOSS, {}) for study in studies}
        absent = {family.key for family in self.absent}
        lacking = {
            (key, value): num_seeds - len(scores.get(key, {}).get(value, {}))
            for key, value in needed
            if key not in absent
        }
        return {value: num for value, num in lacking.items() if num > 0}

    def _unfinished(self, num_seeds: int, is_complete: bool) -> int | None:
        return num_seeds if self.extent.is_spent and not is_complete else None


def _has_diverged(folder: Path, cell: Cell) -> bool:
    run = folder / "cells" / cell.name
    return is_run(run) and is_diverged(RunDirectory(run))


def failure_before(run: Path) -> str:
    """Return why a run failed, by its manifest; empty where it did not, or has been scored."""
    if not is_run(run) or (found := RunDirectory(run)).has_report or found.manifest.status != "failed":
        return ""
    return found.manifest.reason or "for a reason that was not noted"


def code_words(plan: Plan) -> str:
    """Return in words the code that a plan was registered with."""
    commit = f" at commit {plan.versions['commit']}" if "commit" in plan.versions else ""
    return f"mamlcli {plan.versions.get('mamlcli', 'of that time')}{commit}"


def not_done_words(
    plan: Plan, missing: Mapping[tuple[str, str], int], num_needed: int, num_seeds: int
) -> tuple[str, ...]:
    """Return which runs of a look are not done, a phrase for each family; none where it is complete.

    Args:
        plan: registered.
        missing: how many runs each value of each family lacks.
        num_needed: values that the look needs.
        num_seeds: of the look.
    """
    if not missing:
        return ()
    num_runs = num_needed * num_seeds
    total = f"{sum(missing.values())} of the {num_runs} runs of the look at {num_seeds} seeds"
    of_family = {family.words: 0 for family in plan.families}
    words = {family.key: family.words for family in plan.families}
    for (key, _), num in missing.items():
        of_family[words[key]] += num
    return (total, *(f"{family}: {num}" for family, num in of_family.items() if num))


def num_begun(file: Path) -> int:
    """Return the seeds of every value that a study was begun with, by its study.json; 0 where it was not.

    Raises:
        RunError: study.json cannot be read.
    """
    if not file.is_file():
        return 0
    try:
        return len(json.loads(file.read_text(encoding="utf-8"))["seeds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            str(file),
            expected="the settings of a study, with its seeds",
            got=f"{type(error).__name__}: {error}",
            next_step=f"Restore the file, or move {file.parent} away, so that its runs are trained again",
        ) from error


def without_gaps(scores: Scores, first_seed: int) -> Scores:
    """Return the scores of the seeds up to the first that has none.

    A look at n seeds is at the first n of the plan, and not at any n that happen to be there.
    """

    def unbroken(of_value: Mapping[int, float]) -> dict[int, float]:
        end = first_seed
        while end in of_value:
            end += 1
        return {seed: of_value[seed] for seed in range(first_seed, end)}

    return {
        measure: {value: unbroken(of_value) for value, of_value in by_value.items()}
        for measure, by_value in scores.items()
    }
