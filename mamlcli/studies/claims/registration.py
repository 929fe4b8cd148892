"""What a user asks of a reproduction becomes a plan here, or is compared with the plan that its folder has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import MamlError
from mamlcli.common.machine import git_state, now, short_versions, versions
from mamlcli.common.words import nearest
from mamlcli.studies.claims.calls import CALLS_FILE
from mamlcli.studies.claims.claims import contrasts_of
from mamlcli.studies.claims.decisions import UNTIL_DECIDED, Looks, one_look
from mamlcli.studies.claims.frozen import frozen_recipes
from mamlcli.studies.claims.plan import (
    FIRST_SEED,
    OF_PILOTS,
    OF_SCALE,
    PILOT_SEEDS,
    PILOTS,
    PLAN_FILE,
    Family,
    OpenedPlan,
    Plan,
    read_plan,
    write_plan,
)
from mamlcli.studies.claims.scales import SCALES, Scale
from mamlcli.tasks.images.packs import find_pack


@dataclass(frozen=True)
class Request:
    """A request is what a user asks of a reproduction; what is not asked for is left to the scale, or to the plan.

    Attributes:
        scale: its name.
        seeds: of every cell, in one look; None for the scale's looks.
        until_decided: whether seeds are added, look by look, until all is decided.
        max_seeds: with `until_decided`, no look beyond this.
        first_seed: of those tested; by default the scale's.
        families: optional families of the scale, by name.
        choose_rates: whether inner rates are chosen by pilots, even where the scale has them.
    """

    scale: str = "laptop"
    seeds: int | None = None
    until_decided: bool = False
    max_seeds: int | None = None
    first_seed: int | None = None
    families: tuple[str, ...] = ()
    choose_rates: bool = False

    def check(self) -> Scale:
        """Return the scale of the request.

        Raises:
            MamlError: a name that is none, or options that do not go together.
        """
        scale = scale_of(self.scale)
        for name in self.families:
            if name not in scale.optional:
                known = ", ".join(scale.optional) or "none at this scale"
                near = nearest(name, scale.optional).strip() or None
                raise MamlError("--family", expected=f"one of {known}", got=repr(name), why=near)
        if self.seeds is not None and self.until_decided:
            why = "--seeds N is a plan of one look at N seeds; --until-decided adds seeds at several"
            raise MamlError("--until-decided", expected="no --seeds beside it", got=f"--seeds {self.seeds}", why=why)
        if self.seeds is not None and self.seeds < 2:
            raise MamlError("--seeds", expected="2 or more", got=str(self.seeds), why="One seed has no variance")
        if self.max_seeds is not None and not self.until_decided:
            next_step = "Use --seeds N for one look at N seeds"
            raise MamlError("--max-seeds", expected="--until-decided beside it", got="none", next_step=next_step)
        if self.first_seed is not None and self.first_seed < FIRST_SEED:
            why = "Lower seeds were seen while the predictions were written"
            raise MamlError("--first-seed", expected=f"{FIRST_SEED} or more", got=str(self.first_seed), why=why)
        return scale

    def looks(self, scale: Scale) -> Looks:
        """Return the looks of a new plan."""
        looks = scale.looks if self.seeds is None else one_look(self.seeds)
        if self.until_decided and len(looks.seeds) == 1:
            looks = UNTIL_DECIDED
        if self.max_seeds is not None and self.max_seeds < looks.seeds[0]:
            why = f"The plan has {looks_words(looks)}"
            raise MamlError("--max-seeds", expected=f"{looks.seeds[0]} or more", got=str(self.max_seeds), why=why)
        return looks


def scale_of(name: str) -> Scale:
    """Return a scale by its name."""
    if name not in SCALES:
        near = nearest(name, SCALES).strip() or None
        raise MamlError("--scale", expected=f"one of {', '.join(SCALES)}", got=repr(name), why=near)
    return SCALES[name]()


# A new plan -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """A draft is a plan whose inner rates may still have to be chosen.

    Attributes:
        request: what was asked for.
        scale: of the request.
        families: whose data is here.
        left_out: families that are not run, and why, in words.
    """

    request: Request
    scale: Scale
    families: tuple[Family, ...]
    left_out: tuple[str, ...]

    @property
    def needs_pilots(self) -> bool:
        """Whether a value has no inner rate yet."""
        return any(value.key not in family.rates for family in self.families for value in family.values)

    def plan(self, families: Sequence[Family]) -> Plan:
        """Return the plan with the families' rates chosen."""
        request = self.request
        first_seed = self.scale.first_seed if request.first_seed is None else request.first_seed
        return Plan(
            scale=self.scale.name,
            words=self.scale.words,
            looks=request.looks(self.scale),
            first_seed=first_seed,
            pilot_seeds=PILOT_SEEDS,
            families=tuple(families),
            left_out=self.left_out,
            contrasts=contrasts_of(families),
            versions=code_versions(versions(), git_state()),
            created=now(),
            rates_from=OF_PILOTS if self.needs_pilots else OF_SCALE,
            registered_amounts=self.scale.amounts,
            registered_recipes=frozen_recipes(families, first_seed),
        )


def draft(request: Request) -> Draft:
    """Return the draft of a new plan.

    Raises:
        MamlError: a request that cannot be met, or packs that are missing; all are named, with what gets them.
    """
    scale = request.check()
    request.looks(scale)
    asked = [family for name in request.families for family in scale.optional[name]]
    every = (*scale.families, *asked)
    absent = [family for family in every if family.pack is not None and find_pack(family.pack) is None]
    required = [family for family in absent if scale.needs_packs or family in asked]
    if required:
        packs = list(dict.fromkeys(str(family.pack) for family in required))
        raise MamlError(
            f"--scale {scale.name}",
            expected="packs of every data set it uses",
            got=f"none of {', '.join(packs)}",
            next_step=f"Run: {'; '.join(map(how_to_get, packs))}",
        )
    left_out = [f"{family.words}: its pack is not here ({how_to_get(str(family.pack))})" for family in absent]
    present = [family for family in every if family not in absent]
    if request.choose_rates:
        # The search begins at the scale's rates, which are near.
        present = [replace(f, rates={}, first_rates={**f.first_rates, **f.rates}, excess=None) for f in present]
    return Draft(request, scale, tuple(present), tuple(left_out))


def how_to_get(pack: str) -> str:
    """Return the command that makes a pack."""
    return command("data", "import", pack, "FOLDER") if pack == "mini-imagenet" else command("data", "fetch", pack)


def code_versions(packages: Mapping[str, object], git: Mapping[str, object] | None) -> dict[str, str]:
    """Return the versions of code and libraries, with the commit of a checkout."""
    found = short_versions(packages)
    if git:
        found["commit"] = f"{git['commit']}{' with changed files' if git.get('is_dirty') else ''}"
    return found


# The plan of a folder -----------------------------------------------------------------------------------------------


def registered_plan(path: Path, request: Request) -> OpenedPlan | None:
    """Return the plan of a folder, if it is what is asked for; None where the folder has none yet.

    Raises:
        MamlError: the plan is another, or the folder is of something else.
    """
    request.check()
    opened = read_plan(path)
    if opened is None:
        _check_folder(path)
        return None
    if differences := plan_differences(opened.plan, request):
        raise MamlError(
            str(path / PLAN_FILE),
            expected="the plan that is asked for",
            got=f"another: {'; '.join(differences)}",
            why="A plan is not changed once it is registered",
            next_step=f"Name another --dir, or go on with this plan: {command_of(opened.plan, path)}",
        )
    return opened


def plan_or_draft(path: Path, request: Request) -> Plan:
    """Return the plan of a folder, or the one that it would get, without the rates that pilots would choose."""
    opened = registered_plan(path, request)
    if opened is not None:
        return opened.plan
    made = draft(request)
    return made.plan(made.families)


def open_plan(path: Path, request: Request, make: Callable[[], Plan]) -> OpenedPlan:
    """Read the plan of a folder, or register one there.

    Args:
        path: of the reproduction.
        request: what is asked for.
        make: makes the plan, where the folder has none; it may run pilots.

    Raises:
        MamlError: the plan is another, or the folder is of something else.
    """
    opened = registered_plan(path, request)
    if opened is None:
        plan = make()
        write_plan(path, plan)
        opened = OpenedPlan(plan, plan.digest)
    return opened


def plan_differences(plan: Plan, request: Request) -> list[str]:
    """Return in words what a plan has otherwise than what is asked for; what is not asked for is the plan's."""
    found = []
    seeds = plan.looks.seeds
    if plan.scale != request.scale:
        found.append(f"scale {plan.scale} there, {request.scale} here")
    if request.seeds is not None and seeds != (request.seeds,):
        found.append(f"{looks_words(plan.looks)} there, at {request.seeds} here")
    if request.until_decided and len(seeds) == 1:
        found.append(
            f"{looks_words(plan.looks)} there, several with --until-decided: the whole error of the plan is spent at "
            "its one look, so that seeds added to it have no valid level"
        )
    if request.max_seeds is not None and request.max_seeds < seeds[0]:
        found.append(f"{looks_words(plan.looks)} there, none within --max-seeds {request.max_seeds}")
    if request.first_seed is not None and request.first_seed != plan.first_seed:
        found.append(f"seeds from {plan.first_seed} there, from {request.first_seed} here")
    if request.choose_rates and plan.rates_from != OF_PILOTS:
        found.append("rates of the scale there, of pilots here")
    scale = scale_of(request.scale)
    keys = {family.key for family in plan.families}
    for name in request.families:
        if not {family.key for family in scale.optional[name]} <= keys:
            found.append(f"family {name} not there")
    return found


def looks_words(looks: Looks) -> str:
    """Return the looks of a plan in words."""
    *first, last = map(str, looks.seeds)
    return f"looks at {', '.join(first)} and {last} seeds" if first else f"one look at {last} seeds"


def command_of(plan: Plan, path: Path) -> str:
    """Return the command that goes on with the plan of a folder."""
    more = ["--until-decided"] if len(plan.looks.seeds) > 1 else []
    return command("reproduce", "--scale", plan.scale, "--dir", path, *more)


def _check_folder(path: Path) -> None:
    """Refuse to begin in a folder that holds something else than pilots of a plan to be."""
    if path.exists() and not path.is_dir():
        raise MamlError(str(path), expected="a folder", got="a file", next_step="Name another --dir")
    names = {item.name for item in path.iterdir()} if path.is_dir() else set()
    others = sorted(names - {PILOTS, CALLS_FILE})
    if others:
        raise MamlError(
            str(path),
            expected=f"an empty folder, or one with a {PLAN_FILE}",
            got=f"a folder with {', '.join(others[:3])}{' and more' if others[3:] else ''}",
            why="Its runs were made before a plan was registered, so that they cannot be tested by one",
            next_step="Name another --dir",
        )
