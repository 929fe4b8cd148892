"""Any object with init and apply as a gradient transform."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from mamlcli.common.errors import MamlError
from mamlcli.engine.foreign_transform import foreign_transform

PARAMS = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}


class Scaled:
    """One learned factor."""

    def init(self, params: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
        return {"*/factor": torch.ones(())}

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> dict[str, Tensor]:
        return {name: xi["*/factor"] * value for name, value in gradients.items()}


class Branching(Scaled):
    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> dict[str, Tensor]:
        return {name: value if value.sum() > 0 else 2 * value for name, value in gradients.items()}


class Losing(Scaled):
    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> dict[str, Tensor]:
        return {"weight": gradients["weight"]}


class Summing(Scaled):
    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> dict[str, Tensor]:
        return {name: value.sum() for name, value in gradients.items()}


class Listing(Scaled):
    def init(self, params: Mapping[str, Tensor], seed: int) -> list[Tensor]:  # type: ignore[override]
        return [torch.ones(())]


def test_transform_that_is_given_does_what_it_does_by_itself() -> None:
    transform = foreign_transform(Scaled())
    xi = transform.init(PARAMS, 0)
    gradients = {name: torch.ones_like(value) for name, value in PARAMS.items()}
    updates = transform.apply({"*/factor": 3 * xi["*/factor"]}, gradients)
    assert all(torch.equal(updates[name], 3 * value) for name, value in gradients.items())


def test_transform_that_vmap_does_not_take_says_so() -> None:
    assert foreign_transform(Scaled()).unmapped is None
    assert "vmap does not take the transform" in str(foreign_transform(Branching()).unmapped)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (object(), r"an object with init\(params, seed\) and apply"),
        (Scaled, r"an object with init"),
        (Losing(), r"updates named as the gradients, weight, bias, got weight"),
        (Summing(), r"transform.apply \(weight\): expected an update \[3, 2\], got \[\]"),
        (Listing(), r"a dict of tensors by name, got list"),
    ],
)
def test_transform_that_is_none_is_refused(given: object, words: str) -> None:
    with pytest.raises(MamlError, match=words):
        foreign_transform(given).init(PARAMS, 0)
