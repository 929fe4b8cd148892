"""Apply gradient transforms and learned rates of named parameters to flat vectors, for a chunk of tasks at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.func import vmap

from mamlcli.engine.explicit.layout import Layout
from mamlcli.engine.networks import Params
from mamlcli.engine.rates import LearnedRates
from mamlcli.engine.transforms import GradientTransform, Identity

# The name under which the inner loop carries the fast weights of a chunk of tasks, one flat vector for each.
FAST = "fast weights"

# Begins the names under which it carries what the learned rates of each step multiply the updates by.
_SCALES = "scales of step"


@dataclass(frozen=True)
class FlatTransform:
    """Applies a transform of named gradients to the flat gradients of a chunk of tasks.

    Attributes:
        transform: of one task's named gradients.
        layout: of the vector.
        is_per_task: whether xi has a leading dimension of tasks.
        num_runs: runs trained together, each with an xi for its share of the tasks; None for one xi, or one per task.
        num_scales: steps whose updates are multiplied by scales that stand in xi, as `flat_scales` makes them; 1 where
            all steps have the same, 0 without learned rates.
    """

    transform: GradientTransform
    layout: Layout
    is_per_task: bool
    num_runs: int | None = None
    num_scales: int = 0

    def init(self, params: Mapping[str, Tensor], seed: int) -> Params:
        raise NotImplementedError("the meta-parameters are made by the transform itself")

    def apply(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: int = 0) -> Params:
        if not self.num_scales:
            return self._updates(xi, gradients)
        scales = {name for name in xi if name.startswith(_SCALES)}
        updates = self._updates({name: value for name, value in xi.items() if name not in scales}, gradients)[FAST]
        scale = xi[f"{_SCALES} {min(step, self.num_scales - 1)}"]
        if self.num_runs is None:
            return {FAST: scale * updates}
        return {FAST: (scale.unsqueeze(1) * updates.view(self.num_runs, -1, updates.shape[1])).flatten(0, 1)}

    def _updates(self, xi: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Params:
        """Return the updates without learned rates."""
        if isinstance(self.transform, Identity):
            return dict(gradients)
        if self.num_runs is not None:
            named = self.layout.tensors(gradients[FAST].view(self.num_runs, -1, gradients[FAST].shape[1]))
            updates = vmap(vmap(self.transform.apply, in_dims=(None, 0)))(dict(xi), named)
            return {FAST: self.layout.flat(updates).flatten(0, 1)}
        named = self.layout.tensors(gradients[FAST])
        if len(gradients[FAST]) == 1:  # without vmap's own cost
            alone = {name: value[0] for name, value in xi.items()} if self.is_per_task else xi
            updates = self.transform.apply(alone, {name: value[0] for name, value in named.items()})
            return {FAST: self.layout.flat(updates).unsqueeze(0)}
        updates = vmap(self.transform.apply, in_dims=(0 if self.is_per_task else None, 0))(dict(xi), named)
        return {FAST: self.layout.flat(updates)}


def flat_scales(learned: LearnedRates, rates: Params, layout: Layout) -> Params:
    """Return what learned rates multiply flat updates by, [num_adapted] for each step that has rates of its own.

    Where the rates have a leading dimension of runs, so have these, [num_runs, num_adapted].
    """

    def expanded(name: str, shape: tuple[int, ...], step: int) -> Tensor:
        scale = learned.scale(rates, name, step)
        return scale.reshape(*scale.shape, *[1] * len(shape)).expand(*scale.shape, *shape)

    shapes = dict(zip(layout.names, layout.shapes, strict=True))
    return {
        f"{_SCALES} {step}": layout.flat({name: expanded(name, shape, step) for name, shape in shapes.items()})
        for step in range(learned.num_steps or 1)
    }
