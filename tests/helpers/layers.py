"""Networks with meta-parameters away from their start, and tasks for them."""

from mamlcli.engine.execution import Execution
from mamlcli.engine.initial import initial_params
from mamlcli.engine.networks import cnn, linear
from mamlcli.engine.objective import MetaObjective, MetaParams, inner_loop_for
from mamlcli.tasks.episodes import Episode
from tests.helpers.numerics import DOUBLE, classification_episode, perturbed

LOOP, BATCHED = Execution("loop", 1), Execution("batched", 2)


def objective_and_meta(network, *, algorithm="maml", lr=0.1, num_steps=2, **settings):
    """Return an objective and meta-parameters away from the start, so that no bias is zero."""
    inner = inner_loop_for(algorithm, network, lr=lr, num_steps=num_steps, **settings)
    model = perturbed(initial_params(network, init="release", seed=0, dtype=DOUBLE), scale=0.2)
    xi = inner.transform.init({name: model[name] for name in inner.adapted}, 0)
    return MetaObjective(network, inner), MetaParams(model, xi)


def conv_case(*, linear_layers=0, depth=2, norm="batch", **settings):
    network = cnn((1, 6, 6), 3, depth=depth, width=4, norm=norm, linear_layers=linear_layers)
    episode = classification_episode((1, 6, 6), num_tasks=3, ways=3)
    return *objective_and_meta(network, **settings), [episode]


def as_float32(meta, episodes):
    model = {name: value.float() for name, value in meta.model.items()}
    singles = [Episode(e.support_x.float(), e.support_y, e.query_x.float(), e.query_y, truth={}) for e in episodes]
    return MetaParams(model, {}), singles


def stack(depth, *, num_outputs=3, bias=True, transform=None, lr=0.1, num_steps=1, adapt_patterns=None):
    """Return network, meta-parameters (all away from their start) and inner loop of a linear stack."""
    network = linear((4,), num_outputs, depth=depth, width=5, bias=bias)
    inner = inner_loop_for(
        "maml", network, lr=lr, num_steps=num_steps, adapt_patterns=adapt_patterns, transform=transform
    )
    model = perturbed(initial_params(network, init="release", seed=0, dtype=DOUBLE), scale=0.3)
    xi = inner.transform.init({name: model[name] for name in inner.adapted}, 0)
    return network, MetaParams(model, perturbed(xi, scale=0.2, key="xi")), inner
