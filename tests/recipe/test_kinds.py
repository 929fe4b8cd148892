"""The types by which YAML is read, those of plug-ins where a recipe names them."""

from __future__ import annotations

from mamlcli.recipe.kinds import kinds_of
from tests.helpers.plugins import one_file_fixture  # noqa: F401


def test_keys_have_the_types_of_the_schema():
    kinds = kinds_of({})
    assert kinds["tasks", "path"] == {"text", "null"}
    assert kinds["inner", "adapt", ""] == {"text"}
    assert kinds["inner", "transform"] == {"text", "section"}


def test_keys_of_a_plugin_are_known_where_it_is_named(one_file):
    assert ("model", "word") not in kinds_of({})
    assert kinds_of({"model": "net"})["model", "word"] == {"text"}
