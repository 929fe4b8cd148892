"""The run directory: recipe, manifest, metrics, checkpoints; nothing in it is ever half-written.

recipe.yaml                      the resolved recipe
manifest.json                    argv, versions, device, data, status, wall time, peak memory
metrics.jsonl                    one record a line: steps and validations
checkpoints/last.safetensors     the whole training state: tensors, and primitives as JSON in the header
checkpoints/best.safetensors     the meta-parameters of the best meta-validation
evaluation.json, tasks.csv, curve.png, curve.svg
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from mamlcli.errors import RunError
from mamlcli.files import atomic_write, json_text
from mamlcli.recipe import Recipe
from mamlcli.recipe_files import load_recipe, recipe_difference, recipe_to_yaml

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock; a run is then not locked
    fcntl = None  # type: ignore[assignment]


class RunDirectory:
    """One run's folder. Make it with `create` or `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._metrics: IO[str] | None = None

    @classmethod
    def create(cls, path: Path, recipe: Recipe, name: str) -> RunDirectory:
        """Make a new run directory at a path that does not exist or is an empty folder.

        Raises:
            RunError: something is there, or the folder cannot be written.
        """
        try:
            check_free(path)
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
            run = cls(path)
            atomic_write(path / "recipe.yaml", recipe_to_yaml(recipe).encode())
        except OSError as error:
            raise RunError(str(path), expected="a folder that can be written", got=error.strerror,
                           next_step="Name another --run-dir") from error  # fmt: skip
        run.update_manifest({"recipe_name": name, "status": "created"})
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run directory.

        Raises:
            RunError: there is none at the path.
        """
        if not (path / "recipe.yaml").is_file() or not (path / "manifest.json").is_file():
            got = "a folder without recipe.yaml and manifest.json" if path.is_dir() else "no such folder"
            raise RunError(str(path), expected="a run directory", got=got, next_step="Run: mamlcli train")
        return cls(path)

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe of the run."""
        return load_recipe(str(self.path / "recipe.yaml"))[1]

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as it is on disk."""
        try:
            value = json.loads((self.path / "manifest.json").read_text())
            if not isinstance(value, dict):
                raise ValueError("no JSON object")
        except (OSError, ValueError) as error:
            raise RunError(str(self.path / "manifest.json"), expected="a readable manifest", got=str(error),
                           next_step="Train again with --force, or name another run") from error  # fmt: skip
        return value

    @property
    def name(self) -> str:
        return str(self.manifest.get("recipe_name", self.path.name))

    def update_manifest(self, changes: Mapping[str, Any]) -> None:
        """Change some keys of the manifest."""
        current = self.manifest if (self.path / "manifest.json").is_file() else {}
        self.write_json("manifest.json", {**current, **changes})

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run."""
        atomic_write(self.path / name, json_text(value).encode())

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise RunError unless `recipe` is the run's own; how it is computed must agree too.

        Sums in another order round differently, and a resumed run must equal an uninterrupted one.
        """
        difference = recipe_difference(self.recipe, recipe)
        if difference:
            listed = ", ".join(f"{key} ({old!r} there, {new!r} here)" for key, (old, new) in difference.items())
            raise RunError(str(self.path), expected="a run of the same recipe", got=f"another: {listed}",
                           next_step=f"Run: mamlcli train --resume --run-dir {self.path}, without recipe and keys, "
                           "or name another --run-dir")  # fmt: skip

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for one process; released when the process ends, however it ends.

        Raises:
            RunError: another process holds it.
        """
        with (self.path / "lock").open("w") as stream:
            if fcntl is not None:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise RunError(
                        str(self.path),
                        expected="a run that no other process works on",
                        got="one in use",
                        next_step="Wait for it to end, or stop it",
                    ) from error
            yield

    # Metrics -----------------------------------------------------------------------------------------------

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Append one record to metrics.jsonl."""
        if self._metrics is None:
            self._metrics = (self.path / "metrics.jsonl").open("a")
        self._metrics.write(json.dumps(record) + "\n")
        self._metrics.flush()

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the whole records of metrics.jsonl; a last line cut by a crash is left out."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        records = []
        for line in path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                records.append(json.loads(line))
        return records

    def rewind_metrics(self, iteration: int, last_validated: int) -> None:
        """Drop the records that training from a checkpoint will write again.

        Args:
            iteration: meta-iterations done at the checkpoint.
            last_validated: meta-iterations done at its last validation.
        """
        kept = [
            record
            for record in self.read_metrics()
            if record["iteration"] <= (iteration if record["kind"] == "step" else last_validated)
        ]
        atomic_write(self.path / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in kept).encode())

    def close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None


def check_free(path: Path) -> None:
    """Raise RunError unless a new run can go to the path."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        got = "a folder with files in it" if path.is_dir() else "a file"
        raise RunError(
            str(path), expected="a new or empty folder", got=got,
            next_step="Add --resume to continue the run there, --force to replace it, or name another --run-dir",
        )  # fmt: skip


def next_run_path(base: Path, name: str) -> Path:
    """Return `<base>/<name>-<number>`, the number one above the highest there is."""
    return base / f"{name}-{max([0, *_numbers(base, name)]) + 1}"


def newest_run_path(base: Path, name: str) -> Path | None:
    """Return the run of that name with the highest number, or None."""
    numbers = _numbers(base, name)
    return base / f"{name}-{max(numbers)}" if numbers else None


def _numbers(base: Path, name: str) -> list[int]:
    tails = [path.name[len(name) + 1 :] for path in base.glob(f"{name}-*")] if base.is_dir() else []
    return [int(tail) for tail in tails if tail.isdigit()]


def remove_run(path: Path) -> None:
    """Delete a run directory; anything else is refused.

    Raises:
        RunError: the path is a file, or a folder with files that is not a run directory.
    """
    if path.exists() and not path.is_dir():
        raise RunError(str(path), expected="a run directory", got="a file", next_step="Name another --run-dir")
    if path.exists() and any(path.iterdir()):
        RunDirectory.open(path)
        shutil.rmtree(path)
