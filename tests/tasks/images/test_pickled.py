"""Pickles of plain data are read whole, and nothing that a file names is ever run."""

from __future__ import annotations

import collections
import io
import pickle

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.pickled import load_data, read_pickle
from tests.helpers.image_files import noise, python2_pickle

ARRAYS = {
    "images": noise(2, 3, 4, 3),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i8"),
    "strided": np.arange(12).reshape(3, 4)[:, ::2],
    "text": np.array(["aé", "b"]),
    "truth": np.array([True, False]),
    "nothing": np.zeros((0, 3), np.uint8),
}
PLAIN = {
    "dict": collections.OrderedDict(a=[0, np.int64(1)], b=np.float32(1.5)),
    "lists": collections.defaultdict(list, {"n01": [1, 2]}),
    "tuple": (1, -3, 10**20, 0.5, True, None, "é"),
    "range": range(2, 5),
    "bytes": b"",
    "empty": [],
}


def load(content):
    return load_data(io.BytesIO(content), "x.pkl", expected="a pickle")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_data_come_back_from_every_protocol(protocol):
    loaded = load(pickle.dumps({**ARRAYS, **PLAIN}, protocol))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype
    assert {name: loaded[name] for name in PLAIN} == {
        "dict": {"a": [0, 1], "b": 1.5},
        "lists": {"n01": [1, 2]},
        "tuple": [1, -3, 10**20, 0.5, True, None, "é"],
        "range": [2, 3, 4],
        "bytes": "",
        "empty": [],
    }


def test_strings_of_python_2_become_text_and_its_arrays_arrays(tmp_path):
    python2_pickle(tmp_path / "a.pkl", {"names": ["caf\xe9", "cat"], "data": noise(3, 4)})
    loaded = read_pickle(tmp_path / "a.pkl", expected="a pickle")
    assert loaded["names"] == ["caf\xe9", "cat"]
    np.testing.assert_array_equal(loaded["data"], noise(3, 4))


def test_an_array_is_a_view_of_the_bytes_that_were_read():
    image = load(pickle.dumps(noise(5, 5), 2))
    assert not image.flags.writeable
    assert image.base is not None


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "value",
    [
        Call(print, "this ran"),
        Call(eval, "print('this ran')"),
        Call(np.load, "x.npy", None, True),
        Call(getattr, "a", "upper"),
        {1, 2},
        1j,
        slice(1, 2),
        object(),
        np.array([1, "a"], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.datetime64("2020-01-01"),
        print,
        np.ndarray,
        Call(np.dtype, "O"),
        [Call(np.dtype, "u1")],
    ],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_whatever_is_not_plain_data_is_refused_and_not_run(value, protocol, capsys):
    content = pickle.dumps([value], protocol)
    with pytest.raises(DataError, match="was not loaded"):
        load(content)
    assert capsys.readouterr().out == ""


# Opcodes: a global, then a dictionary that BUILD would put into it.
CHANGES = b"cnumpy\ndtype\n(dS'code'\nS'x'\nsb."


def test_a_file_cannot_change_how_the_next_one_is_read():
    with pytest.raises(DataError, match="change how it is read"):
        load(CHANGES)
    with pytest.raises(DataError):
        load(CHANGES.replace(b"cnumpy\ndtype", b"c_codecs\nencode"))
    np.testing.assert_array_equal(load(pickle.dumps(noise(2), 2)), noise(2))


def test_an_array_of_another_size_than_its_bytes_is_refused():
    content = pickle.dumps(noise(200, 3), 2)
    assert content.count(b"K\xc8K\x03") == 1, "the shape"
    for shape in (b"K\xc9K\x03", b"K\xc8K\x02"):
        with pytest.raises(DataError):
            load(content.replace(b"K\xc8K\x03", shape))


def test_lists_that_hold_themselves_or_grow_without_end_are_no_trouble():
    endless = []
    endless.append(endless)
    with pytest.raises(DataError, match="without an end"):
        load(pickle.dumps(endless))
    doubled = ["x"]
    for _ in range(18):
        doubled = [doubled] * 10  # 10 ** 18 names of one text
    loaded = load(pickle.dumps(doubled))
    assert loaded[0] is loaded[9]


def test_a_file_cut_off_anywhere_is_refused():
    content = pickle.dumps({"image_data": noise(4, 3), "class_dict": {"a": [0, 1]}}, 2)
    for length in range(len(content)):
        with pytest.raises(DataError, match=r"x\.pkl: expected a pickle"):
            load(content[:length])


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.pkl"):
        read_pickle(tmp_path / "none.pkl", expected="a pickle")


def test_a_few_bytes_that_make_gigabytes_are_refused(tmp_path):
    """The same text is made into bytes, or the same range into a list, again and again."""
    text = b"\x8c\x07_codecs\x8c\x06encode\x93\x94" + b"X" + (2_000_000).to_bytes(4, "little") + b"x" * 2_000_000
    encode = text + b"\x94\x8c\x06latin1\x94\x86\x94" + b"0" + b"]("
    encode = b"\x80\x04" + encode + b"h\x00h\x03R" * 2000 + b"e."
    ranges = b"\x80\x04\x8c\x08builtins\x8c\x05range\x93\x94J\x40\x42\x0f\x00\x85\x94](" + b"h\x00h\x01R" * 2000 + b"e."
    for data in (encode, ranges):
        (tmp_path / "p.pickle").write_bytes(data)
        with pytest.raises(DataError, match="unfolds to far more"):
            read_pickle(tmp_path / "p.pickle", expected="data")
