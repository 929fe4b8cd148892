"""A cell can start from a trained run with linear layers appended; its first checkpoint is written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from mamlcli.common.errors import MamlError
from mamlcli.engine.linear_stack import append_layers
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.output_layer import stored_params
from mamlcli.engine.state import new_state
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.sweeps.sweep import LAYERS, Sweep
from mamlcli.training.checkpoints import load_checkpoint, save_checkpoint
from mamlcli.training.experiment import Experiment
from mamlcli.training.networks import build_network
from mamlcli.training.trained import best_weights


def write_start(run: RunDirectory, experiment: Experiment, source: RunDirectory) -> None:
    """Write the checkpoint that a cell starts from: a trained run with linear layers appended.

    Nothing is done where the cell has a checkpoint already. Meta-parameters of a gradient transform stay with their
    layer (the last one moves up) where they keep their shape; the others, and those of the appended layers, start
    as the identity.
    """
    if load_checkpoint(run, "last") is not None:
        return
    shape = experiment.network.input_shape
    num_outputs = experiment.network.num_outputs
    old = replace(experiment, recipe=source.recipe, network=build_network(source.recipe, shape, num_outputs))
    meta, weights = best_weights(source, old)
    keys = experiment.recipe.model
    network, params = append_layers(
        old.network, old.objective().start(meta.model), keys.linear_layers, keys.linear_width, experiment.recipe.seed
    )
    assert network.parameter_names() == experiment.network.parameter_names()
    fresh = experiment.initial_meta().transform
    xi = start_transform(meta.transform, fresh, last=len(old.network.head) - 1, num_layers=keys.linear_layers)
    ordered = {name: params[name] for name in experiment.network.parameter_names()}
    theta = stored_params(experiment.network, experiment.recipe.inner.head, ordered)
    run.update_manifest({"started_from": {"run": source.label, "weights": weights}})
    save_checkpoint(run, "last", *new_state(MetaParams(theta, xi), experiment.outer_loop()).export())


def start_transform(
    trained: Mapping[str, Tensor], fresh: Mapping[str, Tensor], *, last: int, num_layers: int
) -> dict[str, Tensor]:
    """Return the meta-parameters xi of a gradient transform for a network that linear layers were appended to.

    Args:
        trained: xi of the shallow network, names as in `<parameter name>/<part>`.
        fresh: xi of the longer network at the identity; it says which names there are, and their shapes.
        last: index of the shallow network's last layer in its head; the last of the longer one, last + num_layers,
            does what it did, and takes its xi. The layers from `last` up to that one are new.
        num_layers: layers appended.
    """
    moved = {}
    for name, value in trained.items():
        is_last = name.startswith(f"head.{last}.")
        moved[f"head.{last + num_layers}.{name.split('.', 2)[2]}" if is_last else name] = value
    return {
        name: moved[name] if name in moved and moved[name].shape == value.shape else value
        for name, value in fresh.items()
    }


def check_start_width(sweep: Sweep, experiment: Experiment) -> None:
    """Raise MamlError where appended layers are too narrow to start as the identity."""
    if isinstance(sweep.recipe.model, OutsideModel):  # nothing is appended to it
        return
    width = sweep.recipe.model.linear_width
    shallow = changed_recipe(sweep.recipe, {LAYERS: 0}, "recipe")
    num_outputs = experiment.network.num_outputs
    last = build_network(shallow, experiment.network.input_shape, num_outputs).head[-1]
    assert isinstance(last, nn.Linear), "a head is linear layers only"
    if sweep.started_from is not None and width is not None and width < last.in_features:
        raise MamlError(
            "model.linear_width",
            expected=f"an integer >= {last.in_features}, the inputs of the last layer",
            got=str(width),
            why="Layers appended to a trained run start as the identity",
        )
