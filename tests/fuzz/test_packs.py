"""Packs of strangers."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mamlcli.tasks.images.packs import load_pack, read_class_names, read_header
from tests.fuzz.bounds import bounded, run, tries
from tests.fuzz.inputs import changed, texts, values


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array))
    return stream.getvalue()


GOOD = {
    "images": npy(np.arange(12 * 64, dtype=np.uint8).reshape(12, 8, 8, 1)),
    "labels": npy(np.arange(12) % 6),
    "class_names": npy([f"c{index}" for index in range(6)]),
    "class_groups": npy(["g"] * 6),
    "source": npy("{}"),
}


def as_pack(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, data in members.items():
            archive.writestr(f"{key}.npy", data)
    return stream.getvalue()


# Of the header, each number and word changed at will; the checksum of the zip is right.
numbers = st.sampled_from((0, -1, 1, 12, 6, 2**31, 2**63, 10**30))
types = st.sampled_from(
    ("|u1", "<i8", "<U5", "|O", "|V8", "<f4", "|S3", "<M8[s]", "<U999999", ">u8", "?", "[('a','<f4')]")
)
headers = st.builds(
    lambda dtype, order, shape: f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {tuple(shape)}, }}\n",
    types,
    st.booleans(),
    st.lists(numbers, max_size=5),
)


def with_header(text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    return b"\x93NUMPY\x01\x00" + min(len(data), 65535).to_bytes(2, "little") + data + bytes(100)


names = st.lists(texts.map(lambda text: text.rstrip("\0")), min_size=6, max_size=6).map(npy)
members = st.one_of(
    *(changed(data) for data in GOOD.values()),
    headers.map(with_header),
    texts.map(with_header),
    names,
    values.map(lambda value: npy(json.dumps(value, default=str))),
    st.lists(st.integers(-2, 8), min_size=12, max_size=12).map(npy),
)
packs = st.one_of(
    changed(as_pack(GOOD)),
    st.dictionaries(st.sampled_from(sorted(GOOD)), members, min_size=1, max_size=2).map(
        lambda others: as_pack({**GOOD, **others})
    ),
)


@given(data=packs)
@tries(150, 2000)
def test_a_file_is_a_pack_or_told_what_is_wrong(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed.npz"
    path.write_bytes(data)
    for read in (read_header, read_class_names, load_pack):
        with bounded():
            read(path)


@given(data=packs)
@tries(15, 300)
def test_the_command_line_shows_nothing_raw(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "shown.npz"
    path.write_bytes(data)
    run("data", "check", path)
