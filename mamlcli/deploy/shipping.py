"""Puts a finished run into the package as a trained model: `python -m mamlcli.deploy.shipping RUN NAME@VERSION`.

What is written is listed in `mamlcli.runs.models`. Of the manifest the keys of `MANIFEST_KEYS` go with it, and no
others: no command, no folder, no name of a machine or a person.
"""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from mamlcli.common.commands import command
from mamlcli.common.errors import MamlError, RunError
from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.tables import duration
from mamlcli.deploy.model_card import shipped_card
from mamlcli.deploy.noise import write_noise_outputs
from mamlcli.deploy.weights import weights_config
from mamlcli.recipe.files import recipe_from_tree, recipe_to_tree, recipe_to_yaml
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import FolderTasks, ImageKeys
from mamlcli.runs.comparison import check_finished
from mamlcli.runs.entry import RunEntry, read_run
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.manifest import Manifest
from mamlcli.runs.models import folder_bytes, models_dir, shipped_models
from mamlcli.runs.pairing import final_task_scores
from mamlcli.runs.scores_table import FINAL_SCORES, final_scores_bytes
from mamlcli.training.checkpoints import save_checkpoint
from mamlcli.training.trained import TrainedRun, open_trained, recipe_elsewhere, weights_checkpoint

MAX_BYTES = 3_000_000  # of all models together: they are in every installation

# A published name always means the same weights: better ones get the next version.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*@[1-9][0-9]*")

MANIFEST_KEYS = (
    "recipe_name",
    "status",
    "started_at",
    "iterations_done",
    "wall_s",
    "peak_memory_mb",
    "seed",
    "evaluation_seed",
    "num_parameters",
    "num_transform_parameters",
    "network",
    "device",
    "execution",
    "data",
    "versions",
)

# A path of one machine: it begins with a slash that no word, address or relative path leads to, or with a drive. Or an
# e-mail address or user@host; the version in a model's name is a number.
_PRIVATE = re.compile(r"(?<![\w./:<\\-])/[\w.~-]+/|~/|\b[A-Za-z]:\\|[\w.+-]+@[A-Za-z][\w.-]*")


def ship_run(run: Path, name: str) -> Path:
    """Write a finished run into the package as a trained model; return its folder.

    Args:
        run: its folder.
        name: NAME@VERSION, one that is not there yet.

    Raises:
        RunError: the run is not finished, its result is not of its weights, or it cannot be of use to others; the
            name is taken or is none; the models together would be too large.
    """
    folder = models_dir() / name
    _check_name(name)
    entry = read_run(RunDirectory.open(run).path)
    check_finished(entry)
    directory = RunDirectory(entry.path)
    trained = open_trained(directory, recipe_elsewhere(directory, where=entry.where, device="cpu"))
    _check_use(entry, trained)
    try:
        _write(folder, entry, trained)
        _check_size(name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        expected = "NAME@VERSION of small letters, digits and hyphens, as in glyphs-5way-1shot@1"
        raise RunError(name, expected=expected, got=repr(name))
    if name in shipped_models():
        stem, _, version = name.partition("@")
        why, next_step = "A published name always means the same weights", f"Take {stem}@{int(version) + 1}"
        raise RunError(name, expected="a name that is not taken", got="one that is", why=why, next_step=next_step)


def _check_use(run: RunEntry, trained: TrainedRun) -> None:
    """Raise RunError for a run that others could not use, or whose result is not that of its weights."""
    assert run.report is not None, "a finished run has a report"
    recipe = trained.recipe
    if isinstance(recipe.tasks, FolderTasks):
        raise RunError(run.where, expected="a run on data that others can get", got="tasks.source=folder")
    if recipe.execution.dtype != "float32":
        got = f"execution.dtype={recipe.execution.dtype}"
        raise RunError(run.where, expected="a run in float32, as models ship", got=got)
    if run.report.weights != trained.weights:
        next_step = f"Run: {command('adapt', run.path, '--out', run.path)}"
        raise RunError(
            run.where,
            expected=f"the result of its {trained.weights}",
            got=f"of {run.report.weights}",
            next_step=next_step,
        )


def _write(folder: Path, run: RunEntry, trained: TrainedRun) -> None:
    """Write the files of a model."""
    assert run.report is not None, "a finished run has a report"
    texts = {
        "recipe.yaml": recipe_to_yaml(_recipe_for_others(trained.recipe)),
        "manifest.json": json_text(_manifest_for_others(run.manifest)),
        "evaluation.json": json_text(replace(run.report, run=folder.name).to_json()),
        "README.md": shipped_card(weights_config(run, trained), folder.name, training=_training(run)),
    }
    (folder / "checkpoints").mkdir(parents=True)
    for name, text in texts.items():
        if found := private_words(text):
            raise RunError(f"{run.where}/{name}", expected="no word of one machine", got=", ".join(map(repr, found)))
        atomic_write(folder / name, text.encode())
    atomic_write(folder / FINAL_SCORES, final_scores_bytes(final_task_scores(run)))
    write_noise_outputs(folder, trained)
    which, _, primitives = weights_checkpoint(trained.directory)
    save_checkpoint(RunDirectory(folder), which, trained.meta.flat(), {"iteration": primitives["iteration"]})


def _recipe_for_others(recipe: Recipe) -> Recipe:
    """Return a recipe without what suits one machine: how it was executed, its log, the place of its data."""
    tree = recipe_to_tree(recipe)
    tree["execution"] = {"dtype": tree["execution"]["dtype"]}
    del tree["logging"]
    if isinstance(recipe.tasks, ImageKeys):
        tree["tasks"]["path"] = None
    return recipe_from_tree(tree)


def _manifest_for_others(manifest: Manifest) -> dict[str, object]:
    """Return the keys of a manifest that its results depend on, and when and how long it was trained."""
    kept = {key: manifest[key] for key in MANIFEST_KEYS if key in manifest}
    data = {key: value for key, value in manifest.data.items() if key != "skipped"}
    if "pack" in data:
        data["pack"] = PureWindowsPath(str(data["pack"])).name  # knows both kinds of slash
    versions = {key: value for key, value in manifest.versions.items() if key != "platform"}
    execution = {key: value for key, value in manifest.execution.items() if key not in ("host", "gpu")}
    return {**kept, "data": data, "versions": versions, "execution": execution}


def private_words(text: str) -> list[str]:
    """Return what in a text belongs to one machine or person: absolute paths, e-mail addresses, user@host.

    The result depends on the text alone, not on who looks at it: a user may be called "data".
    """
    return _PRIVATE.findall(text)


def _training(run: RunEntry) -> str:
    """Return in words how a run was trained."""
    took = "" if run.wall_s is None else f" in {duration(run.wall_s)}"
    device = f" on {run.manifest.device}" if run.manifest.device else ""
    return (
        f"One run of the recipe `{run.recipe_name}` with seed {run.manifest.seed}: {run.iteration:,} "
        f"meta-iterations{took}{device}."
    )


def _check_size(name: str) -> None:
    sizes = {model: folder_bytes(folder) for model, folder in shipped_models().items()}
    if (total := sum(sizes.values())) > MAX_BYTES:
        got = f"{total:,} bytes, {sizes[name]:,} of them of {name}"
        raise RunError(name, expected=f"at most {MAX_BYTES:,} bytes in all models", got=got)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    try:
        ship_run(Path(sys.argv[1]), sys.argv[2])
    except MamlError as error:
        raise SystemExit(f"error: {error}") from None
