"""Files from elsewhere: regular ones alone are opened, and nothing is read beyond its bound."""

from __future__ import annotations

import os

import pytest

from mamlcli.common.bounded import BoundError, check_memory, memory_bytes, open_regular, read_regular, refuse_unfolding
from mamlcli.common.errors import MamlError


def test_a_file_and_a_link_to_one_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_regular(tmp_path / "b", at_most=3) == b"abc"
    with open_regular(tmp_path / "a") as stream:
        assert stream.read(2) == b"ab"


def test_a_file_above_its_bound_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"abcd")
    with pytest.raises(BoundError, match="more than 3 bytes"):
        read_regular(tmp_path / "a", at_most=3)


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in ((tmp_path / "pipe", "a pipe"), ("/dev/zero", "a device"), (tmp_path, "a folder")):
        with pytest.raises(BoundError, match=words):
            open_regular(path)


def test_no_handle_is_left_by_a_refusal(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        with pytest.raises(BoundError):
            open_regular(tmp_path / "pipe")
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_what_unfolds_out_of_proportion_is_refused():
    refuse_unfolding(1_000_000_000, 50_000_000)
    with pytest.raises(BoundError, match="1,000,000 bytes that unfold to 1,000,000,000"):
        refuse_unfolding(1_000_000_000, 1_000_000)


def test_what_the_machine_has_no_memory_for_is_refused():
    here = memory_bytes()
    assert here is None or here > 2**28
    check_memory(1000, "a thing")
    with pytest.raises(MamlError, match=r"the memory for a thing, 1,000,000,000.0 GB"):
        check_memory(10**18, "a thing")
