"""Says what parts given from Python a run was trained with: in its manifest, without code, and in its notes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from mamlcli.common.errors import RunError
from mamlcli.engine.execution import why_unmapped
from mamlcli.engine.foreign import ForeignNetwork
from mamlcli.engine.foreign_checks import shapes_of
from mamlcli.engine.foreign_transform import ForeignTransform
from mamlcli.engine.objective import MetaObjective
from mamlcli.engine.transforms import AroundAnother
from mamlcli.recipe.schema import Recipe
from mamlcli.tasks.given import name_of
from mamlcli.training.given import given_now, parts_needed


def path_notes(objective: MetaObjective) -> list[str]:
    """Say how the tasks of a network or transform that was given are computed, and what that costs."""
    if (why := why_unmapped(objective)) is not None:
        return [
            f"Tasks are computed one by one, not together: {why}. That takes 2 to 3 times as long with 8 tasks of "
            "images, 14 times with 25 tasks of a network of two small layers."
        ]
    if isinstance(objective.network, ForeignNetwork):
        return [
            "The network's code is not mamlcli's: tasks are mapped by vmap, which takes about twice the time of a "
            "network of mamlcli's own, whose derivatives are written out."
        ]
    return []


def record_given(recipe: Recipe, network: object, transform: object) -> dict[str, object]:
    """Return what a manifest notes of the parts that are given: names, shapes and digests, no code."""
    record: dict[str, object] = {}
    given = given_now()
    while isinstance(transform, AroundAnother):
        transform = transform.transform
    if isinstance(network, ForeignNetwork):
        constants = {
            **{name: p for name, p in network.module.named_parameters() if not p.requires_grad},
            **dict(network.module.named_buffers()),
        }
        record["network"] = {
            "class": name_of(network.module),
            "parameters": shapes_of(dict(network.named_parameters())),
            "digest": _digest(dict(network.named_parameters())),
            "constants": _digest(constants) if constants else None,
            "one_by_one": network.unmapped,
        }
    if "tasks" in parts_needed(recipe) and given.tasks is not None:
        record["tasks"] = {"class": name_of(given.tasks)}
    if isinstance(transform, ForeignTransform):
        record["transform"] = {"class": name_of(transform.given), "one_by_one": transform.unmapped}
    return record


def check_given(label: str, noted: Mapping[str, object], record: Mapping[str, object]) -> None:
    """Raise RunError where the network at hand is another than a run notes: other names, shapes or constants."""
    then, now = noted.get("network"), record.get("network")
    if not isinstance(then, dict) or not isinstance(now, dict):
        return
    for key, what in (("parameters", "parameters of the same names and shapes"), ("constants", "the same constants")):
        if _plain(then.get(key)) != _plain(now.get(key)):
            got = f"{now['class']} with other {'parameters' if key == 'parameters' else 'buffers or frozen parameters'}"
            expected = f"the network that it was trained with, {then.get('class')}: {what}"
            raise RunError(label, expected=expected, got=got, next_step="Give the same network, or train a new run")


def _plain(shapes: object) -> object:
    """Return names and shapes without types: a run may be opened in another precision."""
    return [entry[:2] for entry in shapes] if isinstance(shapes, list) else shapes


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a digest of tensors, as float32 where they are floating: a run may be opened in another precision."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(tensors.items()):
        plain = value.detach().cpu()
        plain = plain.float() if plain.is_floating_point() else plain
        digest.update(f"{name} {list(plain.shape)}\n".encode())
        digest.update(plain.contiguous().numpy().tobytes())
    return digest.hexdigest()
