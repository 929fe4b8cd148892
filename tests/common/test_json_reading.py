"""JSON files from anyone: what is no ordinary file, too large, too deep or of another kind is refused in words."""

from __future__ import annotations

import os
import re

import pytest

from mamlcli.common.json_reading import file_bytes, finite, items, json_object, json_value, mapping, text, truth, whole

FILES = {
    b"": "an empty file",
    b"[1]": "no JSON object but a list",
    b"{": "not JSON (Expecting",
    b"\xff\xfe{}": "not JSON ('utf-8' codec",
    b"[" * 100_000: "not JSON of a few levels but of thousands",
    b'{"a": ' * 65 + b"1" + b"}" * 65: "more than 64 levels",
    b'{"a": ' + b"9" * 5000 + b"}": "not JSON (Exceeds",
}


@pytest.mark.parametrize("content", FILES, ids=range(len(FILES)))
def test_a_file_that_is_no_json_object_is_refused_in_words(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(FILES[content])):
        json_object(tmp_path / "a")


def test_levels_are_counted_in_values_not_in_brackets(tmp_path):
    assert json_value(b"[" + b",".join([b"[]"] * 200) + b"]") == [[]] * 200
    assert json_value(b'{"a": "' + b"[" * 200 + b'"}') == {"a": "[" * 200}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_nothing_waits_for_the_writer_of_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(ValueError, match="a pipe"):
        json_object(tmp_path / "a")


def test_a_folder_and_a_file_that_is_too_large_are_refused(tmp_path):
    with pytest.raises((OSError, ValueError)):
        file_bytes(tmp_path)
    (tmp_path / "a").write_bytes(b"12345")
    assert file_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ValueError, match="more than 4 bytes"):
        file_bytes(tmp_path / "a", 4)


WRONG = [
    (text, 3),
    (truth, 1),
    (whole, True),
    (whole, -1),
    (whole, 1.0),
    (whole, 10**400),
    (finite, float("inf")),
    (finite, 10**400),
    (finite, False),
    (finite, "1"),
    (mapping, []),
]


@pytest.mark.parametrize(("kind", "value"), WRONG)
def test_a_value_of_another_kind_is_refused_with_its_key(kind, value):
    with pytest.raises(ValueError, match=r"^a\.b: expected .*, got "):
        kind(value, "a.b")


def test_items_of_a_list_are_named_by_their_number():
    assert items([1, 2], "a", whole) == [1, 2]
    with pytest.raises(ValueError, match=r"^a\[1\]: expected a whole number from 0, got 'x'$"):
        items([1, "x"], "a", whole)


def test_a_long_value_is_cut():
    with pytest.raises(ValueError, match="got '") as caught:
        whole("x" * 10_000, "a")
    assert len(str(caught.value)) < 150
