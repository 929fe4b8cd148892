"""The looks of a plan are taken here: the cells that each needs are run, then every claim is decided.

At the first look every cell is run; at a later one only those of open predictions. It ends when all is decided, when
no look is left, when the hours are spent, or when cells failed. The same call on the same folder goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mamlcli.common.errors import RunError
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.search import is_run
from mamlcli.studies.claims.claims import decide_claims
from mamlcli.studies.claims.contrasts import LOSS, Scores
from mamlcli.studies.claims.costs import with_costs
from mamlcli.studies.claims.deviations import deviations
from mamlcli.studies.claims.evidence import is_diverged, study_of_family
from mamlcli.studies.claims.plan import Family, OpenedPlan, Plan
from mamlcli.studies.claims.predictions import Study
from mamlcli.studies.claims.premise import premise_jobs, read_premise
from mamlcli.studies.claims.reproduction import Reproduction, all_values, open_values, seconds_of_parts, sweep_of
from mamlcli.studies.sweeps.folder import open_study
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
        num_processes: runs at the same time.
        device: where to compute; by default what the recipes say.
        argv: the command, for the manifests.
        command: what continues the reproduction, for the study.json of each study.
        on_family: called when a family is gone through, with its sweep.
        on_end: called when a run ends.
        on_look: called after each look, with what is decided.
    """

    num_processes: int
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
        if done.next_seeds is None or done.look < look or done.failures:
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

    def __post_init__(self) -> None:
        families = self.opened.plan.families
        self.absent = [family for family in families if family.pack is not None and find_pack(family.pack) is None]

    def _is_run(self, family: Family) -> bool:
        return family not in self.absent and not self.opened.is_edited and not self.extent.reads_only

    def check(self) -> None:
        """Refuse what cannot run before anything does."""
        for family in self.opened.plan.families:
            if self._is_run(family):
                check_sweep(self._sweep(family, 1))

    def _sweep(self, family: Family, num_seeds: int) -> Sweep:
        plan = self.opened.plan
        return sweep_of(
            family,
            first_seed=plan.first_seed,
            num_seeds=num_seeds,
            control_tasks=plan.amounts.control_tasks,
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
        studies, failures = [], []
        for family in plan.families:
            if self._is_run(family) or (self.path / family.key / "study.json").is_file():
                study, failed = self._run(family, num_seeds)
                studies.append(study)
                failures += failed
        claims = tuple(decide_claims(plan, studies))
        is_complete = self._is_complete(studies, needed, num_seeds)
        done = Reproduction(
            plan,
            claims,
            tuple(studies),
            deviations(self.opened, self.path, self.absent, self._unfinished(num_seeds, is_complete)),
            tuple(failures),
            look=look if is_complete else (before.look if before is not None else 0),
            wall_s=sum(seconds_of_parts(self.path, studies).values()),
        )
        return with_costs(done, num_processes=self.machine.num_processes)

    def _run(self, family: Family, num_seeds: int) -> tuple[Study, list[str]]:
        sweep, folder = self._sweep(family, num_seeds), self.path / family.key
        open_study(folder, sweep, self.machine.command)
        self.machine.on_family(family, sweep)
        first = self.opened.plan.first_seed

        def is_wanted(cell: Cell) -> bool:
            seeds = self.wanted_seeds.get((family.key, cell.value.label), 0)
            # What diverged would do so again, bit for bit; it scores as guessing does.
            is_open = cell.seed < first + seeds and not _has_diverged(folder, cell)
            return self._is_run(family) and is_open

        result = run_sweep(
            sweep,
            folder,
            num_processes=self.machine.num_processes,
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
        diverged = {cell.label for cell in cells_of(sweep) if _has_diverged(folder, cell)} if result.failures else ()
        failed = [(label, reason) for label, reason in result.failures if label not in diverged]
        return study, [f"{family.words}, {label}: {reason}" for label, reason in failed]

    def _is_complete(self, studies: Sequence[Study], needed: Collection[tuple[str, str]], num_seeds: int) -> bool:
        """Return whether every cell of a look has a score."""
        by_key = {study.key: study for study in studies}
        present = [(key, value) for key, value in needed if key not in {family.key for family in self.absent}]
        return all(
            key in by_key and len(by_key[key].scores.get(LOSS, {}).get(value, {})) >= num_seeds
            for key, value in present
        )

    def _unfinished(self, num_seeds: int, is_complete: bool) -> int | None:
        return num_seeds if self.extent.is_spent and not is_complete else None


def _has_diverged(folder: Path, cell: Cell) -> bool:
    run = folder / "cells" / cell.name
    return is_run(run) and is_diverged(RunDirectory(run))


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
