"""A run's weights as a folder of their own: safetensors, what rebuilds the network, a model card; and back.

model.safetensors      the network's parameters by name
transform.safetensors  the gradient transform's meta-parameters, where the run has one
config.json            all that is needed to rebuild the network
module.py              the network as a torch.nn.Module, with torch and safetensors alone
README.md              the model card
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from mamlcli import models
from mamlcli.build import Experiment, build, build_network
from mamlcli.errors import RecipeError, RunError
from mamlcli.files import atomic_write, json_text
from mamlcli.model_card import model_card
from mamlcli.models import ConvBlock, GlobalMean, Network
from mamlcli.recipe import Recipe
from mamlcli.recipe_files import recipe_from_tree, recipe_to_tree
from mamlcli.run_catalogue import RunEntry
from mamlcli.run_comparison import check_finished
from mamlcli.rundir import RunDirectory
from mamlcli.session import best_weights

CONFIG_FORMAT = 1
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
    assert run.recipe is not None
    if folder.exists() and not is_forced and (not folder.is_dir() or any(folder.iterdir())):
        got = "a folder with files in it" if folder.is_dir() else "a file"
        raise RunError(str(folder), expected="a new or empty folder", got=got,
                       next_step="Name another --weights, or add --force")  # fmt: skip
    experiment = _experiment(run)
    meta, weights = best_weights(RunDirectory.open(run.path), experiment)
    config = _config(run, experiment, weights)
    parts = {
        "model.safetensors": _tensors(meta.model),
        "config.json": json_text(config).encode(),
        "module.py": module_source(experiment).encode(),
        "README.md": model_card(config, has_adapt=_has_adapt(experiment)).encode(),
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
        raise RunError(str(folder), expected="a folder that can be written", got=str(error.strerror)) from error
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
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        recipe = recipe_from_tree(config["recipe"], where=str(path / "config.json"))
        network = build_network(recipe, tuple(config["input_shape"]), config["num_outputs"])
        network.to(getattr(torch, recipe.execution.dtype))
        network.load_state_dict(load_file(path / "model.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, RecipeError) as error:
        raise RunError(str(path), expected="a folder that mamlcli runs export --weights wrote", got=str(error),
                       next_step="Export it again") from error  # fmt: skip
    return network


def _tensors(tensors: dict[str, Tensor]) -> bytes:
    cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    data: bytes = save_tensors(cpu, metadata={"format": "pt"})
    return data


def _experiment(run: RunEntry) -> Experiment:
    """Return a run's experiment without its tasks, which its weights do not need."""
    assert run.recipe is not None
    tree = recipe_to_tree(run.recipe)
    tree["execution"]["device"] = "cpu"
    recipe = recipe_from_tree(tree, where=run.where)
    noted = run.manifest.get("network")
    if not isinstance(noted, dict):
        return build(recipe, splits=(recipe.evaluation.split,))
    shape, num_outputs = tuple(noted["input_shape"]), noted["num_outputs"]
    network = build_network(recipe, shape, num_outputs)
    return Experiment(recipe, torch.device("cpu"), getattr(torch, recipe.execution.dtype), network, {}, {})


def _config(run: RunEntry, experiment: Experiment, weights: str) -> dict[str, Any]:
    recipe, network = experiment.recipe, experiment.network
    tree = recipe_to_tree(recipe)
    tree["execution"]["device"] = "auto"
    tree["tasks"].pop("path", None)  # a place on one machine
    inner = experiment.objective().inner
    # A result is of the weights beside it, or it is none of theirs.
    report = run.report if run.report is not None and run.report.weights == weights else None
    return {
        "format": CONFIG_FORMAT,
        "made_by": f"mamlcli {run.manifest.get('versions', {}).get('mamlcli', '')}".strip(),
        "recipe_name": run.recipe_name,
        "weights": weights,
        "model": tree["model"],
        "input_shape": list(network.input_shape),
        "num_outputs": _num_outputs(network),
        "num_parameters": sum(value.numel() for value in network.parameters()),
        "dtype": recipe.execution.dtype,
        "is_classification": recipe.is_classification,
        "preprocessing": _preprocessing(run, recipe),
        "inner": {**tree["inner"], "adapted": list(inner.adapted)},
        "result": None
        if report is None
        else {key: report.to_json()[key] for key in ("protocol", "curve", "final", "references")},
        "recipe": tree,
    }


def _num_outputs(network: Network) -> int:
    last = network.head[-1]
    assert isinstance(last, nn.Linear)
    return last.out_features


def _preprocessing(run: RunEntry, recipe: Recipe) -> dict[str, Any]:
    """Return what was done to inputs before the network saw them."""
    if recipe.tasks.source in ("linear-regression", "logistic", "sinusoid"):
        return {"inputs": "as drawn"}
    about = run.manifest.get("data", {}).get("preprocessing") or {}
    source = {key: about[key] for key in ("name", "licence", "citation", "preprocessing") if key in about}
    return {"inputs": "images, [channels, height, width], scaled to [0, 1]", "source": source}


# The network as a file of its own -------------------------------------------------------------------------------

_HEADER = '''"""The network of {name}, with torch and safetensors alone. Written by mamlcli (MIT licence)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

NUM_NORM_GROUPS = {num_norm_groups!r}
NORM_EPSILON = {norm_epsilon!r}
'''

_LOAD = '''def load(folder: str | Path = Path(__file__).parent) -> Network:
    """Return the network with its weights."""
    network = Network(
        nn.Sequential({body}),
        nn.Sequential({head}),
        {input_shape!r},
    ).to({dtype})
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network
'''

_ADAPT = '''def adapt(
    network: nn.Module, support_x: Tensor, support_y: Tensor, lr: float = {lr!r}, steps: int = {steps!r}
) -> dict[str, Tensor]:
    """Return the parameters after gradient steps on a task's support set; functional_call(network, them, (x,))."""
    params = {{name: value.detach() for name, value in network.named_parameters()}}
    for _ in range(steps):
        moving = {{name: params[name].detach().requires_grad_() for name in ADAPTED}}
        outputs = functional_call(network, {{**params, **moving}}, (support_x,))
        gradients = torch.autograd.grad({loss}, list(moving.values()))
        for (name, value), gradient in zip(moving.items(), gradients):
            params[name] = (value - lr * gradient).detach()
    return params


ADAPTED = {adapted!r}
'''

_LOSSES = {
    True: "functional.cross_entropy(outputs, support_y)",
    False: "0.5 * (outputs - support_y).square().sum(dim=-1).mean()",
}


def _has_adapt(experiment: Experiment) -> bool:
    """Return whether the inner loop is plain gradient descent, which module.py has in a few lines."""
    inner = experiment.recipe.inner
    return inner.transform.name == "none" and not inner.joint_features


def module_source(experiment: Experiment) -> str:
    """Return a Python file that rebuilds an experiment's network without mamlcli.

    The layers' code is that of `models`, taken from its source, so that both compute the same.
    """
    network, recipe = experiment.network, experiment.recipe
    blocks = any(isinstance(layer, ConvBlock) for layer in network.body)
    layers: list[Callable[..., Any]] = [models.BatchStatisticsNorm, models._norm, ConvBlock] if blocks else []
    name = recipe.tasks.source
    parts = [_HEADER.format(name=name, num_norm_groups=models.NUM_NORM_GROUPS, norm_epsilon=models.NORM_EPSILON)]
    parts += [inspect.getsource(layer) for layer in (*layers, GlobalMean, Network)]
    norm = getattr(recipe.model, "norm", "none")
    parts.append(
        _LOAD.format(
            body=", ".join(_expression(layer, norm) for layer in network.body),
            head=", ".join(_expression(layer, norm) for layer in network.head),
            input_shape=network.input_shape,
            dtype=f"torch.{recipe.execution.dtype}",
        )
    )
    if _has_adapt(experiment):
        inner = experiment.objective().inner
        loss = _LOSSES[recipe.is_classification]
        parts.append(_ADAPT.format(lr=inner.lr, steps=inner.num_steps, loss=loss, adapted=inner.adapted))
    return "\n\n".join(part.strip("\n") + "\n" for part in parts)


def _expression(layer: nn.Module, norm: str) -> str:
    """Return the Python expression that makes a layer like this one."""
    if isinstance(layer, nn.Linear):
        return f"nn.Linear({layer.in_features}, {layer.out_features}, bias={layer.bias is not None})"
    if isinstance(layer, ConvBlock):
        conv = layer.conv
        keys = f"stride={conv.stride[0]}, pool={layer.pool}, norm={norm!r}"
        return f"ConvBlock({conv.in_channels}, {conv.out_channels}, {keys})"
    if isinstance(layer, GlobalMean):
        return "GlobalMean()"
    assert isinstance(layer, nn.Flatten | nn.ReLU | nn.Tanh), f"no expression for {layer}"
    return f"nn.{type(layer).__name__}()"
