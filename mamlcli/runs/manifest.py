"""Gives types to manifest.json: what a run notes of how it was made and how it stands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

# The values of `status` with which a run is over and has a result.
FINISHED = ("done", "stopped early")


class Manifest(Mapping[str, Any]):
    """Holds the content of manifest.json, as a mapping and, for the keys that are read, as typed properties.

    Earlier versions wrote fewer keys, and users may change the file. A key that is missing, or whose value is of
    another kind, is None or empty as a property.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = dict(content)

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def to_json(self) -> dict[str, object]:
        """Return the content of the file, with the keys that this version does not know."""
        return dict(self._content)

    # How the run stands --------------------------------------------------------------------------------------

    @property
    def recipe_name(self) -> str | None:
        """Name of the recipe that the run was made from."""
        return _text(self.get("recipe_name"))

    @property
    def status(self) -> str:
        """How training ended, or "running" or "created"; a word of another version is possible."""
        return str(self.get("status", "created"))

    @property
    def reason(self) -> str | None:
        """Why the run failed or was interrupted."""
        return _text(self.get("reason"))

    @property
    def error(self) -> str | None:
        """Name of the class of the error that ended the training; earlier versions did not note it."""
        return _text(self.get("error"))

    @property
    def started_at(self) -> str | None:
        """Time of the first start, in ISO format."""
        return _text(self.get("started_at"))

    @property
    def resumed_from(self) -> list[int]:
        """Meta-iterations that were done each time the run was resumed."""
        return [number for number in _list(self.get("resumed_from")) if isinstance(number, int)]

    @property
    def iterations_done(self) -> int | None:
        """Meta-iterations done when training last ended."""
        return _whole(self.get("iterations_done"))

    @property
    def wall_s(self) -> float | None:
        """Seconds of all trainings of the run that have ended."""
        return number(self.get("wall_s"))

    # What its results depend on ------------------------------------------------------------------------------

    @property
    def argv(self) -> list[str]:
        """Command line of the last start."""
        return [str(word) for word in _list(self.get("argv"))]

    @property
    def seed(self) -> int | None:
        """Seed of the training."""
        return _whole(self.get("seed"))

    @property
    def evaluation_seed(self) -> int | None:
        """Seed of the evaluation, which draws its tasks."""
        return _whole(self.get("evaluation_seed"))

    @property
    def num_parameters(self) -> int | None:
        """Numbers in the network's parameters."""
        return _whole(self.get("num_parameters"))

    @property
    def num_transform_parameters(self) -> int | None:
        """Numbers in the parameters of the gradient transform."""
        return _whole(self.get("num_transform_parameters"))

    @property
    def peak_memory_mb(self) -> float | None:
        """Most memory that the last training took, in megabytes."""
        return number(self.get("peak_memory_mb"))

    @property
    def device(self) -> str | None:
        """Name of the processor or graphics card."""
        return _text(self.get("device"))

    @property
    def execution(self) -> Mapping[str, object]:
        """How the tasks were run: path, chunk, threads, workers and so on."""
        return _object(self.get("execution"))

    @property
    def num_workers(self) -> int:
        """Processes that share the tasks of a meta-batch."""
        return _whole(self.execution.get("workers")) or 1

    @property
    def data(self) -> Mapping[str, object]:
        """Where the tasks come from, and how images were made into arrays."""
        return _object(self.get("data"))

    @property
    def data_digest(self) -> str | None:
        """Digest of the images; None for tasks that are drawn from formulas."""
        return _text(self.data.get("digest"))

    @property
    def data_file(self) -> str | None:
        """File or folder that the images were read from last; None for tasks that are generated."""
        return None if self.data_digest is None else _text(self.data.get("pack"))

    @property
    def typed_path(self) -> str | None:
        """Path of the data as it was typed when the run was made; None where none was."""
        return _text(self.get("typed_path"))

    @property
    def typed_in(self) -> str | None:
        """The folder that the command was typed in."""
        return _text(self.get("typed_in"))

    @property
    def started_from(self) -> Mapping[str, object]:
        """The run whose weights this one started from, and which they are; empty for a run with weights of its own."""
        return _object(self.get("started_from"))

    @property
    def changes(self) -> list[Mapping[str, object]]:
        """What was changed each time the run went on: key, value before, value now, and the iteration."""
        return [_object(change) for change in _list(self.get("changes")) if isinstance(change, dict)]

    @property
    def earlier_results(self) -> list[Mapping[str, object]]:
        """Results that later ones of the same run, trained for longer, have replaced."""
        return [_object(result) for result in _list(self.get("earlier_results")) if isinstance(result, dict)]

    @property
    def versions(self) -> Mapping[str, object]:
        """Versions of mamlcli, Python and packages, and the platform."""
        return _object(self.get("versions"))

    @property
    def git(self) -> Mapping[str, object]:
        """Commit of the source, and whether it had changes; empty outside a repository."""
        return _object(self.get("git"))


def number(value: object) -> float | None:
    """Return a finite number of a JSON file; None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
