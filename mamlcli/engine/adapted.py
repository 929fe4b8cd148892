"""Choose the parameters that adapt in the inner loop, and refuse choices that do not go with the algorithm."""

from __future__ import annotations

from mamlcli.common.errors import MamlError
from mamlcli.engine.networks import Network, select_names
from mamlcli.engine.output_layer import output_layer_names


def adapted_names(algorithm: str, network: Network, patterns: list[str] | None) -> tuple[str, ...]:
    """Return the names of the parameters that adapt: those that match, else the algorithm's own choice."""
    names, of_head = network.parameter_names(), network.head_parameter_names()
    if patterns is not None:
        return select_names(names, patterns, where="inner.adapt")
    if algorithm == "boil":
        return tuple(name for name in names if name not in of_head)
    return of_head if algorithm == "anil" else names


def check_what_adapts(algorithm: str, network: Network, adapted: tuple[str, ...], *, joint_features: bool) -> None:
    """Raise a MamlError if parameters of the body or the head adapt where they cannot."""
    of_head = [name for name in adapted if name in network.head_parameter_names()]
    of_body = [name for name in adapted if name not in of_head]
    if algorithm == "boil" and not adapted:
        raise MamlError(
            "inner.algorithm",
            expected="maml, fomaml or anil for a network of linear layers only",
            got="boil",
            why="With boil the body adapts, and this network has none: all of its layers are the head",
        )
    if algorithm == "boil" and of_head:
        raise MamlError(
            "inner.adapt",
            expected="parameters of the body with inner.algorithm=boil",
            got=", ".join(of_head),
            next_step="Use inner.algorithm=maml to adapt the head",
        )
    if algorithm == "anil" and of_body:
        raise MamlError(
            "inner.adapt",
            expected="parameters of the head with inner.algorithm=anil",
            got=", ".join(of_body),
            next_step="Use inner.algorithm=maml to adapt the body",
        )
    if joint_features and of_body:
        raise MamlError(
            "inner.joint_features",
            expected="false where the body adapts",
            got="true",
            next_step="Use inner.algorithm=anil, or inner.joint_features=false",
        )


def check_output_layer(head: str, network: Network, adapted: tuple[str, ...]) -> None:
    """Raise a MamlError if an output layer that starts the same for all classes would stay so, or is all there is."""
    if head == "learned":
        return
    weight = output_layer_names(network)[0]
    if weight not in adapted:
        raise MamlError(
            "inner.head",
            expected="learned where the output layer does not adapt",
            got=head,
            why=f"It starts the same for all classes, and {weight} would stay so: no class could be told from another",
            next_step="Use inner.head=learned, or let the output layer adapt: another inner.algorithm or inner.adapt",
        )
    if len(network.parameter_names()) == len(output_layer_names(network)):
        raise MamlError(
            "inner.head",
            expected="learned for a network of one layer",
            got=head,
            why="The output layer is all there is, and no initialisation would be learned",
        )
