"""Python imports this at its start, in every process of a command that the harness has started with this folder."""

from tests.soak.points import install_from_environment

install_from_environment()
