"""Any object with `init` and `apply` as a gradient transform; what it returns is checked once, when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor
from torch.func import vmap

from mamlcli.common.errors import MamlError
from mamlcli.common.words import first_line
from mamlcli.engine.networks import Params
from mamlcli.engine.transforms import GradientTransform

_WHERE = "transform"


@dataclass(frozen=True, eq=False)
class ForeignTransform:
    """A gradient transform that was given. `foreign_transform` makes it.

    Attributes:
        given: has `init` and `apply`, as in `mamlcli.engine.transforms.GradientTransform`.
    """

    given: GradientTransform

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        """Return xi, once it and the updates that it makes are checked.

        Raises:
            MamlError: xi is no mapping of names to tensors, or updates have other names or shapes than gradients.
        """
        xi: object = self.given.init(dict(params), seed)
        if not isinstance(xi, Mapping) or not all(isinstance(value, Tensor) for value in xi.values()):
            got = type(xi).__name__
            raise MamlError(f"{_WHERE}.init", expected="meta-parameters, a dict of tensors by name", got=got)
        checked: Params = dict(xi)
        odd = [name for name, value in checked.items() if not value.is_floating_point()]
        if odd:
            raise MamlError(f"{_WHERE}.init", expected="float tensors", got=f"{odd[0]}, {checked[odd[0]].dtype}")
        checked = {name: value.detach().clone() for name, value in checked.items()}
        like = next(iter(params.values()), None)
        if like is not None and like.device.type != "meta":
            checked = {name: value.to(like.device, like.dtype) for name, value in checked.items()}
        _check_updates(self.given, checked, params)
        return checked

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        """Return what the object makes of the gradients."""
        return self.given.apply(dict(xi), dict(gradients), step)

    @cached_property
    def unmapped(self) -> str | None:
        """Why tasks are computed one by one; None where `apply` goes through vmap."""
        params = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}
        try:
            xi = self.given.init(dict(params), 0)
            together = {name: torch.stack([value, 2 * value]) for name, value in params.items()}
            vmap(lambda gradients: self.given.apply(dict(xi), gradients, 0))(together)
        except Exception as error:
            return f"torch.func.vmap does not take the transform ({first_line(error)})"
        return None


def foreign_transform(given: object) -> ForeignTransform:
    """Return an object as a gradient transform.

    Raises:
        MamlError: it has no `init` and `apply`.
    """
    if isinstance(given, type) or not all(callable(getattr(given, name, None)) for name in ("init", "apply")):
        expected = "an object with init(params, seed) and apply(xi, gradients, step)"
        raise MamlError(_WHERE, expected=expected, got=repr(given)[:100])
    return ForeignTransform(cast(GradientTransform, given))


def _check_updates(given: GradientTransform, xi: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> None:
    gradients = {name: value.detach().clone() for name, value in params.items()}
    with torch.no_grad():
        updates = given.apply(dict(xi), gradients, 0)
    wanted = {name: tuple(value.shape) for name, value in params.items()}
    if not isinstance(updates, Mapping) or set(updates) != set(wanted):
        got = type(updates).__name__ if not isinstance(updates, Mapping) else ", ".join(updates) or "none"
        raise MamlError(
            f"{_WHERE}.apply", expected=f"updates named as the gradients, {', '.join(wanted)}", got=got[:300]
        )
    for name, shape in wanted.items():
        if tuple(updates[name].shape) != shape:
            got = str(list(updates[name].shape))
            raise MamlError(f"{_WHERE}.apply ({name})", expected=f"an update {list(shape)}", got=got)
