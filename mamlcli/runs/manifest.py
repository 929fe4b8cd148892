"""Gives types to manifest.json: what a run notes of how it was made and how it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mamlcli.runs.manifest_keys import CHECKS

# The values of `status` with which a run is over and has a result.
FINISHED = ("done", "stopped early")


class Manifest(Mapping[str, Any]):
    """Holds the content of manifest.json, as a mapping and, for the keys that are read, as typed properties.

    Earlier versions wrote fewer keys: one that is missing or null is None or empty as a property. Keys that this
    version does not know are kept, and may hold anything.

    Raises:
        ValueError: a key holds what it cannot mean; the message says which, what it should hold, and what it does.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = dict(content)
        for key, check in CHECKS.items():
            if self._content.get(key) is not None:
                check(self._content[key], key)

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
        return self.get("recipe_name")

    @property
    def status(self) -> str:
        """How training ended, or "running" or "created"; a word of another version is possible."""
        return self.get("status") or "created"

    @property
    def reason(self) -> str | None:
        """Why the run failed or was interrupted."""
        return self.get("reason")

    @property
    def error(self) -> str | None:
        """Name of the class of the error that ended the training; earlier versions did not note it."""
        return self.get("error")

    @property
    def started_at(self) -> str | None:
        """Time of the first start, in ISO format."""
        return self.get("started_at")

    @property
    def resumed_from(self) -> list[int]:
        """Meta-iterations that were done each time the run was resumed."""
        return list(self.get("resumed_from") or ())

    @property
    def iterations_done(self) -> int | None:
        """Meta-iterations done when training last ended."""
        return self.get("iterations_done")

    @property
    def wall_s(self) -> float | None:
        """Seconds of all trainings of the run that have ended."""
        return self.get("wall_s")

    # What its results depend on ------------------------------------------------------------------------------

    @property
    def argv(self) -> list[str]:
        """Command line of the last start."""
        return list(self.get("argv") or ())

    @property
    def seed(self) -> int | None:
        """Seed of the training."""
        return self.get("seed")

    @property
    def evaluation_seed(self) -> int | None:
        """Seed of the evaluation, which draws its tasks."""
        return self.get("evaluation_seed")

    @property
    def num_parameters(self) -> int | None:
        """Numbers in the network's parameters."""
        return self.get("num_parameters")

    @property
    def num_transform_parameters(self) -> int | None:
        """Numbers in the parameters of the gradient transform."""
        return self.get("num_transform_parameters")

    @property
    def peak_memory_mb(self) -> float | None:
        """Most memory that the last training took, in megabytes."""
        return self.get("peak_memory_mb")

    @property
    def device(self) -> str | None:
        """Name of the processor or graphics card."""
        return self.get("device")

    @property
    def execution(self) -> Mapping[str, Any]:
        """How the tasks were run: path, chunk, threads, workers and so on."""
        return self.get("execution") or {}

    @property
    def num_workers(self) -> int:
        """Processes that share the tasks of a meta-batch."""
        return self.execution.get("workers") or 1

    @property
    def data(self) -> Mapping[str, Any]:
        """Where the tasks come from, and how images were made into arrays."""
        return self.get("data") or {}

    @property
    def data_digest(self) -> str | None:
        """Digest of the images; None for tasks that are drawn from formulas."""
        return self.data.get("digest")

    @property
    def data_file(self) -> str | None:
        """File or folder that the images were read from last; None for tasks that are generated."""
        return None if self.data_digest is None else self.data.get("pack")

    @property
    def typed_path(self) -> str | None:
        """Path of the data as it was typed when the run was made; None where none was."""
        return self.get("typed_path")

    @property
    def typed_in(self) -> str | None:
        """The folder that the command was typed in."""
        return self.get("typed_in")

    @property
    def started_from(self) -> Mapping[str, Any]:
        """The run whose weights this one started from, and which they are; empty for a run with weights of its own."""
        return self.get("started_from") or {}

    @property
    def changes(self) -> list[Mapping[str, Any]]:
        """What was changed each time the run went on: key, value before, value now, and the iteration."""
        return list(self.get("changes") or ())

    @property
    def earlier_results(self) -> list[Mapping[str, Any]]:
        """Results that later ones of the same run, trained for longer, have replaced."""
        return list(self.get("earlier_results") or ())

    @property
    def network(self) -> tuple[tuple[int, ...], int] | None:
        """Shape of the network's input and number of its outputs; None for a run that did not note them."""
        network = self.get("network")
        return network and (tuple(network["input_shape"]), network["num_outputs"])

    @property
    def given(self) -> Mapping[str, Any]:
        """What was given from Python, by network, tasks and transform: names of classes, shapes, digests."""
        return self.get("given") or {}

    @property
    def plugins(self) -> Mapping[str, Mapping[str, Any]]:
        """The plug-ins of the run by the section of its recipe: the name, its package and the package's version."""
        return self.get("plugins") or {}

    @property
    def versions(self) -> Mapping[str, Any]:
        """Versions of mamlcli, Python and packages, and the platform."""
        return self.get("versions") or {}

    @property
    def git(self) -> Mapping[str, Any]:
        """Commit of the source, and whether it had changes; empty outside a repository."""
        return self.get("git") or {}

    @property
    def parts(self) -> list[Mapping[str, Any]]:
        """The sessions of training whose work is in the run, each with what it was computed with; one for each start.

        Of a run of an earlier version only the last one is known, from the keys that every run has.
        """
        return list(self.get("parts") or ())

    # What it says of its files -------------------------------------------------------------------------------

    @property
    def recipe_digest(self) -> str | None:
        """SHA-256 of recipe.yaml as it was written; None for a run of an earlier version."""
        recipe = self.get("recipe")
        return recipe and recipe["sha256"]

    @property
    def recipe_keys(self) -> Mapping[str, Any] | None:
        """The resolved recipe that the run was trained by, as a tree; None for a run of an earlier version."""
        recipe = self.get("recipe")
        return recipe and recipe["keys"]

    @property
    def metrics_mark(self) -> Mapping[str, Any] | None:
        """Length and SHA-256 of the metrics when this was last written; None where that is not known."""
        return self.get("metrics")

    @property
    def noticed(self) -> list[str]:
        """What was found lost or changed in the run's files when it went on, in words."""
        return list(self.get("noticed") or ())
