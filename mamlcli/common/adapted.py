"""The parameters that adapt are chosen here; choices that do not go with the algorithm are refused."""

from __future__ import annotations

from collections.abc import Sequence

from mamlcli.common.architecture import ParameterNames, select_names
from mamlcli.common.errors import MamlError


def adapted_names(
    algorithm: str,
    names: ParameterNames,
    patterns: Sequence[str] | None,
    *,
    joint_features: bool = False,
    head: str = "learned",
) -> tuple[str, ...]:
    """Return the names of the parameters that adapt: those that match, else the algorithm's own choice.

    Args:
        algorithm: "maml", "fomaml", "anil" or "boil".
        names: of the network's parameters.
        patterns: shell patterns of parameter names.
        joint_features: whether support and query set pass the body in one batch.
        head: how the output layer starts, "learned", "zero" or "shared".

    Raises:
        MamlError: a pattern that matches nothing; parameters of the body or the head that adapt where they cannot; an
            output layer that starts the same for all classes, and would stay so or is all there is.
    """
    if patterns is not None:
        adapted = select_names(names.all, patterns, where="inner.adapt")
    else:
        adapted = {"boil": names.body, "anil": names.head}.get(algorithm, names.all)
    _check_what_adapts(algorithm, names, adapted, joint_features=joint_features)
    _check_output_layer(head, names, adapted)
    return adapted


def _check_what_adapts(
    algorithm: str, names: ParameterNames, adapted: tuple[str, ...], *, joint_features: bool
) -> None:
    of_head = [name for name in adapted if name in names.head]
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
    if not adapted:
        raise MamlError(
            "inner.algorithm",
            expected="maml, or inner.adapt with the parameters that adapt",
            got=algorithm,
            why="The network has no linear layer that computes its outputs, which would be the head",
        )
    if algorithm == "anil" and of_body and names.head:
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


def _check_output_layer(head: str, names: ParameterNames, adapted: tuple[str, ...]) -> None:
    """Raise a MamlError if an output layer that starts the same for all classes would stay so, or is all there is."""
    if head == "learned":
        return
    weight = names.output[0]
    if weight not in adapted:
        raise MamlError(
            "inner.head",
            expected="learned where the output layer does not adapt",
            got=head,
            why=f"It starts the same for all classes, and {weight} would stay so: no class could be told from another",
            next_step="Use inner.head=learned, or let the output layer adapt: another inner.algorithm or inner.adapt",
        )
    if len(names.all) == len(names.output):
        raise MamlError(
            "inner.head",
            expected="learned for a network of one layer",
            got=head,
            why="The output layer is all there is, and no initialisation would be learned",
        )
