"""Files of packs: what their headers promise is checked before anything is unfolded."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.packs import load_pack, read_class_names, read_header


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array))
    return stream.getvalue()


def with_header(header: str, data: bytes = b"") -> bytes:
    text = f"{header}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def write_pack(path, **changes: bytes):
    """Write a pack of 12 images of 6 classes with the bytes of some members changed."""
    members = {
        "images": npy(np.zeros((12, 8, 8, 1), np.uint8)),
        "labels": npy(np.arange(12) % 6),
        "class_names": npy([f"c{index}" for index in range(6)]),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key, data in (members | changes).items():
            archive.writestr(f"{key}.npy", data)
    return path


def shape(text: str, dtype: str = "|u1") -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({text}), }}"


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': " + "[" * 3000,
        shape("12, 8, 8, 1" + "0" * 5000),
        shape("-1, 8, 8, 1"),
        shape("12, 8, 8, 10**9"),
        shape("12, 8, 8, 1", "|O"),
        shape("12, 8, 8, 1", "|V99999999999"),
        "{'descr': [('\\ud800', '<f4')], 'fortran_order': False, 'shape': (1,)}",
        "\0" * 100,
    ],
)
@pytest.mark.parametrize("read", [load_pack, read_header, read_class_names])
def test_header_that_is_none_is_refused(tmp_path, header, read):
    with pytest.raises(DataError):
        read(write_pack(tmp_path / "p.npz", images=with_header(header)))


def test_header_is_compared_with_the_bytes_behind_it(tmp_path):
    path = write_pack(tmp_path / "p.npz", images=with_header(shape("12, 80000, 80000, 3")))
    with pytest.raises(DataError, match="images of uint8"):
        load_pack(path)


def test_bytes_out_of_proportion_to_the_file_are_refused_unread(tmp_path):
    num = 400_000
    images = with_header(shape(f"{num}, 28, 28, 1"), bytes(num * 784))
    path = write_pack(tmp_path / "p.npz", images=images, labels=npy(np.zeros(num, np.int64)))
    del images
    tracemalloc.start()
    with pytest.raises(DataError, match="that unfold to"):
        load_pack(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_header_of_gigabytes_is_not_read(tmp_path):
    huge = b"\x93NUMPY\x02\x00" + struct.pack("<I", 30_000_000) + bytes(30_000_000)
    path = write_pack(tmp_path / "p.npz", labels=huge)
    tracemalloc.start()
    with pytest.raises(DataError):
        load_pack(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_what_is_no_array_of_a_pack_is_not_read(tmp_path):
    assert load_pack(write_pack(tmp_path / "p.npz", other=b"anything")).num_classes == 6


@pytest.mark.parametrize("name", ["\ud800", "x" * 10_000])
@pytest.mark.parametrize("key", ["class_names", "class_groups"])
def test_names_that_cannot_be_written_or_fill_the_screen_are_refused(tmp_path, name, key):
    names = npy([f"{index}{name}" for index in range(6)])
    with pytest.raises(DataError, match="class names of"):
        load_pack(write_pack(tmp_path / "p.npz", **{key: names}))


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '{"class_splits": {"train": 5}}', '"\\ud800"', "null"])
def test_source_is_read_as_a_record_or_refused(tmp_path, text):
    path = write_pack(tmp_path / "p.npz", source=npy(text))
    with contextlib.suppress(DataError):
        assert isinstance(load_pack(path).source.to_json(), dict)


def test_pipe_in_the_place_of_a_pack_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "p.npz")
    with pytest.raises(DataError, match="got a pipe"):
        load_pack(tmp_path / "p.npz")
