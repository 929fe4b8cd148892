"""A new run can start from the weights of another; which of them are taken, and what is noted of it, is here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mamlcli.common.errors import RunError
from mamlcli.engine.networks import Params
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.output_layer import stored_params
from mamlcli.engine.state import new_state
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.models import is_model
from mamlcli.training.checkpoints import save_checkpoint
from mamlcli.training.experiment import Experiment
from mamlcli.training.trained import TrainedRun, open_trained, recipe_elsewhere

_SHOWN = 4  # tensors that do not fit, before the rest is a number


@dataclass(frozen=True)
class FirstWeights:
    """The meta-parameters that a new run starts from, taken from a trained run.

    Attributes:
        meta: theta and xi, on the device and in the precision of the new run.
        record: where they come from, for the manifest: run, weights in words, digest, what was taken, what is new.
    """

    meta: MetaParams
    record: Mapping[str, object]


def first_weights(source: RunDirectory, experiment: Experiment) -> FirstWeights:
    """Return the weights of a trained run, the best by meta-validation, for the start of a new one.

    Taken are the initialisation theta and, where both runs have a gradient transform or learned rates, their
    parameters xi. The optimizer of the outer loop, the meta-iterations and what was best in validation start anew.

    Args:
        source: a run with a checkpoint, or a shipped model; its data need not be here.
        experiment: of the new run.

    Raises:
        RunError: the source has no checkpoint, or weights of other names or shapes.
    """
    trained = open_trained(source, recipe_elsewhere(source, where=f"--from {source.label}", device="cpu"))
    experiment.use_threads()  # opening set those of the source
    fresh = experiment.initial_meta()
    theta = _fitting(source, fresh.model, _theta_for(trained, experiment), "model")
    is_taken = bool(fresh.transform) and bool(trained.meta.transform)
    xi = fresh.transform
    if is_taken:
        xi = _fitting(source, xi, trained.meta.transform, "inner.transform and inner.rates")
    noted = {
        "run": source.label if is_model(source.path) else str(source.path.absolute()),
        "weights": trained.weights,
        "digest": weights_digest(trained.meta),
        "taken": ["initialisation", *(["gradient transform"] if is_taken else [])],
        "new": ["outer optimizer", *(["gradient transform"] if fresh.transform and not is_taken else [])],
        "left": ["gradient transform"] if trained.meta.transform and not is_taken else [],
    }
    return FirstWeights(MetaParams(theta, xi), noted)


def save_first_weights(run: RunDirectory, experiment: Experiment, meta: MetaParams) -> None:
    """Write the checkpoint that training begins with, at meta-iteration 0."""
    save_checkpoint(run, "last", *new_state(meta, experiment.outer_loop()).export())


def start_words(record: Mapping[str, object]) -> str:
    """Return in words what a run took from another, from the record in its manifest."""
    parts = [f"weights of {record.get('run')} ({record.get('weights')})"]
    for key, word in (("taken", "taken"), ("new", "new"), ("left", "left out")):
        names = record.get(key)
        if isinstance(names, list) and names:
            parts.append(f"{word}: {', '.join(map(str, names))}")
    return "; ".join(parts)


def weights_digest(meta: MetaParams) -> str:
    """Return a digest of meta-parameters, names and bits, to tell whether two starts are the same."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(meta.flat().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _theta_for(trained: TrainedRun, experiment: Experiment) -> Params:
    """Return theta of a trained run as the new run stores it: with its kind of output layer, where that can be made."""
    theta, old, new = trained.meta.model, trained.experiment, experiment.recipe.inner.head
    if trained.recipe.inner.head == new:
        return dict(theta)
    return stored_params(old.network, new, old.objective().start(theta))


def _fitting(source: RunDirectory, wanted: Mapping[str, Tensor], there: Mapping[str, Tensor], keys: str) -> Params:
    """Return the tensors of a run under the names of those wanted, in their precision and on their device.

    Raises:
        RunError: a name is missing or too many, or a shape differs.
    """
    odd = [
        f"{name} {_shape(there.get(name))} (here {_shape(wanted.get(name))})"
        for name in dict.fromkeys((*wanted, *there))
        if _shape(wanted.get(name)) != _shape(there.get(name))
    ]
    if odd:
        more = f" and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else ""
        why = f"The keys of {keys}, the ways and the size of images decide on them"
        raise RunError(
            f"--from {source.label}",
            expected="weights of the same names and shapes as the new run's",
            got=", ".join(odd[:_SHOWN]) + more,
            why=why,
            next_step="Leave RECIPE out to take the run's own recipe, or set these keys as they are there",
        )
    return {name: there[name].to(value) for name, value in wanted.items()}


def _shape(value: Tensor | None) -> str:
    return "none" if value is None else str(list(value.shape))
