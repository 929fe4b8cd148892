"""Which parameters adapt by each algorithm, and which choices are refused."""

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.engine.networks import cnn, linear, mlp
from mamlcli.engine.objective import inner_loop_for

NETWORK = mlp((4,), 3, depth=1, width=5, linear_layers=1)


def inner_loop(algorithm, network=NETWORK, **settings):
    return inner_loop_for(algorithm, network, lr=0.1, num_inner_steps=1, **settings)


@pytest.mark.parametrize(
    ("algorithm", "layers"),
    [
        ("maml", {"body.0", "head.0", "head.1"}),
        ("fomaml", {"body.0", "head.0", "head.1"}),
        ("anil", {"head.0", "head.1"}),
        ("boil", {"body.0"}),
    ],
)
def test_each_algorithm_adapts_its_layers(algorithm, layers):
    expected = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    assert set(inner_loop(algorithm).adapted) == expected


def test_boil_takes_a_part_of_the_body():
    network = cnn((1, 6, 6), 3, depth=2, width=4)
    assert inner_loop("boil", network, adapt_patterns=["body.1.conv.*"]).adapted == (
        "body.1.conv.weight",
        "body.1.conv.bias",
    )


def test_boil_refuses_to_adapt_the_head():
    reason = r"inner\.adapt: expected parameters of the body with inner\.algorithm=boil, got head\.0\.bias.*=maml"
    with pytest.raises(MamlError, match=reason):
        inner_loop("boil", adapt_patterns=["*.0.bias"])


def test_boil_refuses_a_network_without_a_body():
    with pytest.raises(MamlError, match=r"inner\.algorithm: .*linear layers only, got boil"):
        inner_loop("boil", linear((4,), 3, depth=2))


def test_boil_refuses_joint_features():
    with pytest.raises(MamlError, match=r"inner\.joint_features: expected false where the body adapts"):
        inner_loop("boil", joint_features=True)


@pytest.mark.parametrize("head", ["zero", "shared"])
@pytest.mark.parametrize(("algorithm", "patterns"), [("boil", None), ("maml", ["body.*", "head.0.*", "*.bias"])])
def test_output_layer_that_starts_the_same_for_all_classes_has_to_adapt(head, algorithm, patterns):
    with pytest.raises(MamlError, match=rf"inner\.head: .* got {head}.*head\.1\.weight would stay so"):
        inner_loop(algorithm, head=head, adapt_patterns=patterns)


def test_output_layer_that_starts_the_same_is_refused_where_nothing_else_would_be_learned():
    network = linear((4,), 3, depth=1)
    for head in ("zero", "shared"):
        with pytest.raises(MamlError, match=rf"inner\.head: .*network of one layer, got {head}"):
            inner_loop("maml", network, head=head)
        assert inner_loop("maml", linear((4,), 3, depth=2), head=head).head == head
