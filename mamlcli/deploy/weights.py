"""This module exports a run's weights to a folder that rebuilds the network without the run, and reads it back.

model.safetensors      the network's parameters by name, at the start of every task: with inner.head=zero or shared the
                       output layer is written out as it starts
transform.safetensors  the gradient transform's meta-parameters, where the run has one
config.json            all that is needed to rebuild the network
module.py              the network as a torch.nn.Module, with torch and safetensors alone
README.md              the model card
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mamlcli.common.bounded import open_regular, read_regular
from mamlcli.common.disk import write_error
from mamlcli.common.errors import RunError
from mamlcli.common.files import atomic_write, json_text
from mamlcli.deploy.model_card import WeightsConfig, model_card
from mamlcli.deploy.module_source import has_adapt, module_source
from mamlcli.engine.networks import Network
from mamlcli.recipe.files import recipe_from_tree
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.plugin_schema import NetworkKeys
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import ImageKeys
from mamlcli.runs.comparison import check_finished
from mamlcli.runs.entry import RunEntry
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.networks import build_network
from mamlcli.training.scoring import CHOSEN_HERE
from mamlcli.training.trained import TrainedRun, open_trained, recipe_elsewhere

FILES = ("model.safetensors", "transform.safetensors", "config.json", "module.py", "README.md")


def export_weights(run: RunEntry, folder: Path, *, is_forced: bool = False) -> list[Path]:
    """Write a finished run's best weights to a folder.

    Args:
        run: the run.
        folder: new or empty, or one to write over with `is_forced`; other files in it stay.
        is_forced: replace files that are there.

    Returns:
        The files written.

    Raises:
        RunError: the run is not finished or has no checkpoint, or the folder cannot be written.
        DataError: a run of an earlier version, which did not note the shape of its inputs, and whose data is gone.
    """
    check_finished(run)
    if folder.exists() and not is_forced and (not folder.is_dir() or any(folder.iterdir())):
        got = "a folder with files in it" if folder.is_dir() else "a file"
        next_step = "Name another --weights, or add --force"
        raise RunError(str(folder), expected="a new or empty folder", got=got, next_step=next_step)
    directory = RunDirectory.open(run.path)
    if isinstance(directory.recipe.model, OutsideModel):
        is_plugin = isinstance(directory.recipe.model, NetworkKeys)
        of_whom = f"of the plug-in {directory.recipe.model.kind}" if is_plugin else "that was given from Python"
        expected, got = "a run whose network mamlcli makes", f"one of a module {of_whom}"
        argument = "" if is_plugin else ", network=..."
        next_step = f"Save it from Python: mamlcli.load(run{argument}).module.state_dict()"
        raise RunError(run.where, expected=expected, got=got, next_step=next_step)
    trained = open_trained(directory, recipe_elsewhere(directory, where=run.where, device="cpu"))
    config = weights_config(run, trained)
    _, meta = trained.experiment.objective().with_learned_head(trained.meta)
    parts = {
        "model.safetensors": _tensors(meta.model),
        "config.json": json_text(config.to_json()).encode(),
        "module.py": module_source(trained.experiment).encode(),
        "README.md": model_card(config, has_adapt=has_adapt(trained.experiment)).encode(),
    }
    if meta.transform:
        parts["transform.safetensors"] = _tensors(meta.transform)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in FILES:
            (folder / stale).unlink(missing_ok=True)
        for name, data in parts.items():
            atomic_write(folder / name, data)
    except OSError as error:
        raise write_error(error, str(folder), expected="a folder that can be written") from error
    return [folder / name for name in parts]


def load_module(folder: Path | str) -> Network:
    """Return the network of an exported folder with its weights, a torch.nn.Module on the CPU.

    Args:
        folder: written by `export_weights`.

    Returns:
        The network: [n, *input_shape] -> [n, num_outputs], as meta-training left it, not adapted to any task.

    Raises:
        RunError: a file is missing, damaged, or of another network.

    Example:
        module = load_module("exported")
        outputs = module(torch.rand(10, *module.input_shape))
    """
    path = Path(folder)
    try:
        return _module(path)
    except Exception as error:  # whatever is in the files of another: JSON, recipes, safetensors and torch differ
        expected = "a folder that mamlcli runs export --weights wrote"
        raise RunError(str(path), expected=expected, got=str(error)[:500], next_step="Export it again") from error


# What config.json has at most; it has a few kilobytes.
_CONFIG_BYTES = 1_000_000


def _module(path: Path) -> Network:
    """Return the network of a folder; memory is taken for the weights in its file alone, whatever its config says."""
    config = json.loads(read_regular(path / "config.json", at_most=_CONFIG_BYTES).decode())
    recipe = recipe_from_tree(config["recipe"], where=str(path / "config.json"))
    with torch.device("meta"):
        network = build_network(recipe, tuple(config["input_shape"]), config["num_outputs"])
        network.to(getattr(torch, recipe.execution.dtype))
    with open_regular(path / "model.safetensors") as stream:  # the library would wait for a pipe
        tensors = load_tensors(stream.read())
    for name, value in network.named_parameters():
        if name in tensors and tensors[name].dtype != value.dtype:
            raise ValueError(f"{name} of {tensors[name].dtype} for {value.dtype}")
    network.load_state_dict(tensors, assign=True)
    return network


def _tensors(tensors: dict[str, Tensor]) -> bytes:
    cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    data: bytes = save_tensors(cpu, metadata={"format": "pt"})
    return data


def weights_config(run: RunEntry, trained: TrainedRun) -> WeightsConfig:
    """Return what is known of a run's weights, for its model card."""
    recipe, network = trained.recipe, trained.experiment.network
    # The report may be of other weights: of a checkpoint that was best when the run was scored.
    report = (
        run.report
        if run.report is not None and run.report.weights.removesuffix(CHOSEN_HERE) == trained.weights
        else None
    )
    inputs, source = _inputs(run, recipe)
    return WeightsConfig(
        made_by=f"mamlcli {run.manifest.versions.get('mamlcli', '')}".strip(),
        recipe_name=run.recipe_name,
        weights=trained.weights,
        recipe=recipe,
        input_shape=network.input_shape,
        num_outputs=network.num_outputs,
        num_parameters=sum(value.numel() for value in network.parameters()),
        adapted=trained.experiment.objective().inner.adapted,
        inputs=inputs,
        source=source,
        result=report,
    )


def _inputs(run: RunEntry, recipe: Recipe) -> tuple[str, Mapping[str, object] | None]:
    """Return what was done to inputs before the network saw them, and what images were made from."""
    if not isinstance(recipe.tasks, ImageKeys):
        return "as drawn", None
    about = run.manifest.data.get("preprocessing")
    keys = ("name", "licence", "citation", "preprocessing")
    source = {key: about[key] for key in keys if key in about} if isinstance(about, dict) else {}
    return "images, [channels, height, width], scaled to [0, 1]", source
