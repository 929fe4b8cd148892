"""Any module as a network: the same meta-gradient as a loop written by hand, on the path that is chosen for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from mamlcli.common.errors import MamlError
from mamlcli.engine.choice import choose_execution
from mamlcli.engine.execution import meta_gradients
from mamlcli.engine.foreign import ForeignNetwork, foreign_network, initial_values, with_batch_statistics
from mamlcli.engine.inner_loop import InnerLoop
from mamlcli.engine.networks import Params, apply_network
from mamlcli.engine.objective import MetaObjective, MetaParams, inner_loop_for
from mamlcli.tasks.episodes import Episode
from tests.helpers.foreign_networks import Recurrent, ResNet12, Transformer, mlp, squeezenet

WAYS, LR, STEPS = 3, 0.05, 2
CPU = torch.device("cpu")

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "resnet-12": ResNet12,
    "transformer": Transformer,
    "mlp with layer norm": mlp,
    "recurrent": Recurrent,
    "squeezenet": squeezenet,
}


def made(module: nn.Module, shape: tuple[int, ...] = (3, 16, 16)) -> ForeignNetwork:
    return foreign_network(module, shape, WAYS, dtype=torch.float64, device=CPU)


def tasks(shape: tuple[int, ...] = (3, 16, 16)) -> Episode:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(2, 2, 2 * WAYS, *shape, generator=generator, dtype=torch.float64)
    y = torch.arange(WAYS).repeat(2).expand(2, -1)
    return Episode(x[:, 0], y, x[:, 1], y, truth={})


def by_hand(module: nn.Module, episode: Episode) -> Params:
    """The meta-gradient as PyTorch tutorials write it: autograd.grad with create_graph through two inner steps."""
    module = module.to(torch.float64)
    theta = {name: value.detach().clone().requires_grad_() for name, value in module.named_parameters()}
    total: Tensor = torch.zeros((), dtype=torch.float64)
    with sdpa_kernel(SDPBackend.MATH):  # torch's faster attention cannot be differentiated twice
        for support_x, support_y, query_x, query_y in zip(*episode.data(), strict=True):
            phi = dict(theta)
            for _ in range(STEPS):
                loss = cross_entropy(functional_call(module, phi, (support_x,)), support_y)
                gradients = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
                phi = {name: value - LR * g for (name, value), g in zip(phi.items(), gradients, strict=True)}
            total = total + cross_entropy(functional_call(module, phi, (query_x,)), query_y) / episode.num_tasks
    return dict(zip(theta, torch.autograd.grad(total, list(theta.values())), strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_foreign_network_has_the_meta_gradient_of_a_loop_written_by_hand(name: str) -> None:
    torch.manual_seed(0)
    module = NETWORKS[name](WAYS)
    network, episode = made(module), tasks()
    objective = MetaObjective(network, InnerLoop(network.parameter_names(), LR, STEPS))
    how = choose_execution(objective, num_support=6, num_query=6, num_inner_steps=STEPS, num_tasks=2, device_type="cpu")
    assert how.path == ("loop" if name == "recurrent" else "batched")
    [gradient] = meta_gradients(objective, [MetaParams(initial_values(network), {})], episode, how)
    expected = by_hand(module, episode)
    assert set(gradient.gradients) == {f"model/{name}" for name in expected}
    largest = max(float(value.abs().max()) for value in expected.values())
    for key, value in expected.items():
        # Sums in another order, in float64; small features divided by a norm cost a few digits.
        torch.testing.assert_close(gradient.gradients[f"model/{key}"], value, rtol=0, atol=1e-9 * largest)


def test_network_that_vmap_takes_says_no_reason_and_one_that_it_does_not_says_which() -> None:
    assert made(mlp(WAYS)).unmapped is None
    assert "vmap does not take it" in str(made(Recurrent(WAYS)).unmapped)


def test_network_whose_vmapped_gradient_is_wrong_is_computed_task_by_task() -> None:
    class OwnNorm(nn.LayerNorm):
        """Not exchanged for one that is written out, as it may compute something else."""

    module = nn.Sequential(nn.Linear(4, 8), OwnNorm(8), nn.Tanh(), nn.Linear(8, WAYS))
    network, episode = made(module, (4,)), tasks((4,))
    objective = MetaObjective(network, InnerLoop(network.parameter_names(), LR, STEPS))
    how = choose_execution(objective, num_support=6, num_query=6, num_inner_steps=2, num_tasks=2, device_type="cpu")
    [gradient] = meta_gradients(objective, [MetaParams(initial_values(network), {})], episode, how)
    for key, value in by_hand(module, episode).items():
        torch.testing.assert_close(gradient.gradients[f"model/{key}"], value, rtol=1e-9, atol=1e-12)


def test_module_that_is_given_stays_as_it_is() -> None:
    module = ResNet12(WAYS).eval()
    kinds = [type(layer) for layer in module.modules()]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    generator = torch.random.get_rng_state()
    copy = made(module)
    assert torch.equal(generator, torch.random.get_rng_state())
    assert copy.module is not module
    assert [type(layer) for layer in module.modules()] == kinds
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_with_batch_statistics_keeps_parameters_and_drops_what_is_kept_of_batches() -> None:
    module = torchvision.models.shufflenet_v2_x0_5(num_classes=WAYS)
    changed = with_batch_statistics(module)
    assert dict(changed.named_parameters()).keys() == dict(module.named_parameters()).keys()
    assert not list(changed.named_buffers())
    assert list(module.named_buffers())
    norm = nn.BatchNorm1d(3)
    x = torch.randn(7, 3)
    torch.testing.assert_close(with_batch_statistics(norm).eval()(x), norm.train()(x))


def test_written_out_batch_norm_is_torch_s_for_every_number_of_dimensions() -> None:
    for norm, shape in ((nn.BatchNorm1d, (5,)), (nn.BatchNorm1d, (5, 4)), (nn.BatchNorm2d, (5, 4, 3))):
        layer = norm(5, eps=1e-3, track_running_stats=False).double()
        torch.nn.init.uniform_(layer.weight)
        flat = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(WAYS)).double()
        x = torch.randn(4, *shape, dtype=torch.float64)
        expected = flat(x).detach()
        torch.testing.assert_close(made(flat, shape)(x).detach(), expected)


def test_frozen_parameters_and_buffers_are_constants() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, WAYS))
    module[0].requires_grad_(False)
    network = made(module, (4,))
    assert network.parameter_names() == ("2.weight", "2.bias")
    params = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    assert torch.equal(apply_network(network, params, torch.ones(2, 4).double()), torch.zeros(2, WAYS).double())


def test_anil_adapts_the_last_linear_layer_or_what_is_named() -> None:
    network = made(Transformer(WAYS))
    loop = inner_loop_for("anil", network, lr=LR, num_inner_steps=1)
    assert loop.adapted == ("head.weight", "head.bias")
    named = inner_loop_for("maml", network, lr=LR, num_inner_steps=1, adapt_patterns=["embed.*", "head.*"])
    assert named.adapted == ("embed.weight", "embed.bias", "head.weight", "head.bias")
    last_is_conv = made(squeezenet(WAYS))
    patterns = ["*.classifier.1.*"]
    assert len(inner_loop_for("anil", last_is_conv, lr=LR, num_inner_steps=1, adapt_patterns=patterns).adapted) == 2
    with pytest.raises(MamlError, match="no linear layer"):
        inner_loop_for("anil", last_is_conv, lr=LR, num_inner_steps=1)


def test_features_are_what_the_output_layer_gets() -> None:
    module = mlp(WAYS)
    network = made(module)
    x = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    features = apply_network(network, initial_values(network), x, "body")
    torch.testing.assert_close(features, module.double()[:4](x).detach())


def test_fewer_outputs_are_the_first_ones() -> None:
    network = made(mlp(WAYS))
    x = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    params = initial_values(network)
    whole = apply_network(network, params, x)
    assert torch.equal(apply_network(network.with_outputs(2), params, x), whole[:, :2])


def test_network_that_cannot_be_differentiated_twice_is_refused_unless_first_order() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.Hardsigmoid(), nn.Linear(8, WAYS))
    with pytest.raises(MamlError, match=r"differentiated again.*first_order=true"):
        made(module, (4,))
    foreign_network(module, (4,), WAYS, dtype=torch.float64, device=CPU, needs_exact=False)
