"""The places that `--on` names: which there are, and how each is opened for a study."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mamlcli.common.errors import MamlError
from mamlcli.studies.where import slurm, tcp
from mamlcli.studies.where.connection import Connection

LOCAL, GPUS = "local", "gpus"

# Places that are a Dask cluster: what stands before the colon, and what opens it, given what stands after it.
CLUSTERS: dict[str, Callable[[str], AbstractContextManager[Connection]]] = {
    "slurm": slurm.connected,
    "tcp": tcp.connected,
}

FORMS = "local, gpus[:N], slurm[:PROFILE] or tcp://HOST:PORT"


@dataclass(frozen=True)
class Place:
    """A place is what `--on` names.

    Attributes:
        kind: the word before the colon.
        argument: what stands after it; empty for nothing.
    """

    kind: str
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind


def place_of(text: str) -> Place:
    """Return the place that the words of `--on` name.

    Raises:
        MamlError: they name none.
    """
    kind, _, argument = text.strip().partition(":")
    is_known = kind in (LOCAL, GPUS, *CLUSTERS)
    if not is_known or (kind == LOCAL and argument) or (kind == "tcp" and not argument.startswith("//")):
        raise MamlError("--on", expected=FORMS, got=repr(text))
    return Place(kind, argument)
