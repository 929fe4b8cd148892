"""A manifest notes what was given, so that another network is told from it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mamlcli.common.errors import RunError
from mamlcli.engine.foreign import foreign_network
from mamlcli.engine.transforms import Identity
from mamlcli.recipe.files import recipe_from_tree
from mamlcli.training.given_record import check_given, record_given

RECIPE = recipe_from_tree({"tasks": {"source": "python"}, "model": {"kind": "python"}})


def record(module: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, object]:
    network = foreign_network(module, (4,), 1, dtype=dtype, device=torch.device("cpu"))
    return record_given(RECIPE, network, Identity())


def frozen(value: float) -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 1))
    nn.init.constant_(module[0].weight, value)
    module[0].bias.data.zero_()
    module[0].requires_grad_(False)
    return module


def test_same_network_with_other_first_weights_is_the_same_in_any_precision() -> None:
    check_given("run", record(nn.Linear(4, 1)), record(nn.Linear(4, 1), torch.float64))
    check_given("run", record(frozen(1.0)), record(frozen(1.0), torch.float64))


def test_network_of_other_shapes_or_constants_is_another_one() -> None:
    with pytest.raises(RunError, match=r"torch.nn.modules.linear.Linear: parameters of the same names"):
        check_given("run", record(nn.Linear(4, 1)), record(nn.Linear(4, 1, bias=False)))
    with pytest.raises(RunError, match="other buffers or frozen parameters"):
        check_given("run", record(frozen(1.0)), record(frozen(2.0)))
