"""Profiles of `cluster.yaml` say what a Slurm job of a study asks for; they are read and checked as recipes are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field, ValidationError

from mamlcli.common.bounded import BoundError, read_regular
from mamlcli.common.errors import MamlError, RecipeError
from mamlcli.common.files import TextFileError, config_dir, text_of
from mamlcli.common.words import brief, first_line, nearest, shown
from mamlcli.recipe.kinds import KeyPath
from mamlcli.recipe.problems import Draft, expected_value
from mamlcli.recipe.reading import syntax_hint, tree_of
from mamlcli.recipe.section import Section

FILE = "cluster.yaml"

# The profile of `--on slurm`; where no file has it, its keys have their defaults.
DEFAULT = "default"

_MOST_BYTES = 64_000

# A job has to start, import torch, and compute something before it is told to stop.
WARNING_S = 120
_LEAST_S = 5 * 60


def seconds_of(time: str) -> int:
    """Return the seconds of a time as Slurm writes it: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, (*parts, 0)[:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _checked_time(time: str) -> str:
    if not re.fullmatch(r"\d{1,6}(:\d\d){0,2}|\d{1,4}-\d\d?(:\d\d){0,2}", time):
        raise ValueError("expected a time as Slurm has it (45 for minutes, 8:00:00, 2-12:00:00)")
    if seconds_of(time) < _LEAST_S:
        raise ValueError("expected a time of at least 5 minutes, of which the last two are for saving")
    return time


def _checked_memory(memory: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,8}[KMGT]", memory):
        raise ValueError("expected a number with K, M, G or T, such as 4G")
    return memory


def _checked_option(option: str) -> str:
    if not re.fullmatch(r"-.*\S", option):
        raise ValueError("expected options of sbatch, such as --constraint=a100")
    if found := _OURS.match(option):
        raise ValueError(f"expected options of sbatch that are no keys, such as {_OURS_BY_OPTION[found[0]]}")
    return option


_OURS_BY_OPTION = {
    "--partition": "partition",
    "--account": "account",
    "--qos": "qos",
    "--time": "time",
    "--cpus-per-task": "cpus",
    "--mem": "memory",
    "--gres": "gres",
}
_OURS = re.compile(rf"({'|'.join(_OURS_BY_OPTION)})(?=[ =]|$)")

# One line each: they become lines of a script.
Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\n\r\x00]+$")]

Word = Annotated[str, Field(max_length=200, pattern=r"^[^\s\x00]+$")]


class Profile(Section):
    """What a Slurm job asks for, in which one worker runs one cell after the other."""

    partition: Word | None = Field(None, description="partition; by default that of the cluster")
    account: Word | None = Field(None, description="account to which the time is charged; by default the user's own")
    qos: Word | None = Field(None, description="quality of service, where the cluster asks for one")
    time: Annotated[Word, AfterValidator(_checked_time)] = Field("1:00:00", description="wall time of a job")
    cpus: Annotated[int, Field(ge=1, le=1024)] = Field(1, description="cores of a job; its cells use all of them")
    memory: Annotated[Word, AfterValidator(_checked_memory)] = Field("4G", description="memory of a job")
    gres: Word | None = Field(None, description="generic resources of a job, such as gpu:1")
    options: Annotated[list[Annotated[Line, AfterValidator(_checked_option)]], Field(max_length=50)] = Field(
        [], description="more options of sbatch"
    )
    prologue: Annotated[list[Line], Field(max_length=50)] = Field([], description="lines of shell before the worker")
    python: Line | None = Field(None, description="Python of the workers; by default the one that runs the command")
    max_jobs: Annotated[int, Field(ge=1, le=1000)] = Field(8, description="most jobs at once")
    wait: Annotated[int, Field(ge=1, le=10_080)] = Field(60, description="minutes to wait for a first worker")
    interface: Word | None = Field(
        None, description="network interface by which workers and the command meet, such as ib0"
    )


_INTEGERS, _LISTS = ("cpus", "max_jobs", "wait"), ("options", "prologue")


def profile_named(name: str | None) -> Profile:
    """Return the profile of `--on slurm:NAME`, or of `--on slurm`.

    A profile of the current folder's `cluster.yaml` goes before one of the user's of the same name.

    Raises:
        MamlError: there is no profile of this name; RecipeError: a file cannot be read, or has wrong keys.
    """
    found: dict[str, Profile] = {}
    files = profile_files()
    for path in files:
        found = {**found, **_profiles(path)}
    wanted = name or DEFAULT
    if wanted in found:
        return found[wanted]
    if name is None:
        if len(found) == 1:
            return next(iter(found.values()))
        if not found:
            return Profile()
    places = " and ".join(shown(path) for path in files)
    raise MamlError(
        f"--on slurm:{name}" if name else "--on slurm",
        expected=f"one of the profiles {', '.join(found)}" if found else f"a profile of a file {FILE}",
        got=brief(name) if name else "none",
        why=f"They are those of {places}{nearest(name or '', found)}" if found else "There is no such file",
        next_step=f"Write one into ./{FILE} or {shown(user_file())}; docs/cluster.md has an example",
    )


def user_file() -> Path:
    """Return the path of the user's own `cluster.yaml`, whether it is there or not."""
    return (config_dir() or Path(".")) / FILE


def profile_files() -> list[Path]:
    """Return the files with profiles that are there: the user's, then the current folder's."""
    return [path for path in dict.fromkeys((user_file(), Path(FILE))) if path.exists()]


def _profiles(path: Path) -> dict[str, Profile]:
    """Return the profiles of a file; every problem of it is told at once."""
    draft = _read(path)
    found: dict[str, Profile] = {}
    problems: list[str] = []
    for name, keys in draft.tree.items():
        if not re.fullmatch(r"[\w.-]+", name):
            place = draft.place((name,))
            problems.append(f"{place}: expected a name of letters, digits, _, . or -, got {brief(name)}.")
        try:
            found[name] = Profile.model_validate(keys if keys is not None else {})
        except ValidationError as error:
            problems += [_problem(draft, name, item) for item in error.errors(include_url=False)]
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    return found


def _problem(draft: Draft, name: str, item: object) -> str:
    """Return an error of pydantic in words, as recipes have them."""
    assert isinstance(item, dict)
    path = (name, *(part for part in item["loc"] if isinstance(part, str)))
    place, got = draft.place(path), item["input"]
    if item["type"] == "extra_forbidden":
        known = tuple(Profile.model_fields)
        hint = f"{nearest(path[-1], known)} The keys are {', '.join(known)}."
        return f"{place}: expected a known key, got {brief(path[-1])}.{hint}"
    if item["type"] == "string_pattern_mismatch":
        one = "one line of text" if path[-1] in ("options", "prologue") else "text without spaces"
        return f"{place}: expected {one}, got {brief(got)}."
    expected = expected_value(item["type"], item.get("ctx", {}), item["msg"])
    hint = f" Write it below the name of a profile, such as {DEFAULT}." if name in Profile.model_fields else ""
    return f"{place}: expected {expected}, got {brief(got)}.{hint}"


def _read(path: Path) -> Draft:
    """Return the values of a file, typed as the keys of profiles want them, with the line of each."""
    where = shown(path)
    try:
        text = text_of(read_regular(path, at_most=_MOST_BYTES))
        tree, lines = tree_of(text, _kinds_in(tree_of(text, {})[0]))
    except OSError as error:
        raise RecipeError([f"{where}: expected a readable file, got {error.strerror}."]) from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        wrong = f"{error.problem}.{syntax_hint(error)}"
        raise RecipeError([f"{where}{line}: expected YAML, got a syntax error: {wrong}"]) from error
    except (BoundError, TextFileError, yaml.YAMLError, ValueError) as error:
        raise RecipeError([f"{where}: expected a YAML text file, got {first_line(error)}."]) from error
    except RecursionError as error:
        raise RecipeError([f"{where}: expected profiles with keys, got far too many levels."]) from error
    if not isinstance(tree, dict) or not tree:
        got = "an empty file" if not tree else brief(tree)
        raise RecipeError([f"{where}: expected profiles, each a name with keys below it, got {got}."])
    return Draft(path.stem, where, tree, lines)


def _kinds_in(tree: object) -> Mapping[KeyPath, frozenset[str]]:
    """Return what the keys of the profiles in a tree may hold."""
    names = [name for name in tree if isinstance(name, str)] if isinstance(tree, dict) else []
    kinds: dict[KeyPath, frozenset[str]] = {}
    for name in names:
        kinds |= {(name, key): frozenset({"text", "null"}) for key in Profile.model_fields}
        kinds |= {(name, key): frozenset({"integer"}) for key in _INTEGERS}
        kinds |= {(name, key): frozenset({"texts"}) for key in _LISTS}
        kinds |= {(name, key, ""): frozenset({"text"}) for key in _LISTS}
    return kinds
