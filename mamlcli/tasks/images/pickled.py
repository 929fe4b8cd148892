"""Reads pickles of plain data without trusting them: nothing that is named in a file is imported or run."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from mamlcli.common.bounded import BoundError, open_regular
from mamlcli.common.errors import DataError
from mamlcli.common.words import first_line, shown

# The largest of the files in use, mini-ImageNet's meta-train classes, has 0.8 GB.
_MAX_BYTES = 8_000_000_000
_MAX_DEPTH = 20

# Kinds of numbers and text that an array may hold; the rest of the code is the size of one element.
_DTYPE = re.compile(r"([<>|=]?)([biufSUa]\d+)")

# What a file may have made besides what stands in it: so much, and so many times its own size. Python 2 writes an array
# as text, which is made into bytes once.
_MADE_BYTES = 100_000_000
_MADE_RATIO = 3

# What a file may name, each with what is made in its place. Python 2 and NumPy 1 call some of them otherwise.
_NUMPY_CORE = ("numpy.core", "numpy._core")
_BUILTINS = ("builtins", "__builtin__")


class _Dtype:
    """Stands for a NumPy dtype while a pickle is loaded."""

    def __init__(self, *arguments: object) -> None:
        self.code, self.order = _text(arguments[0]), ""

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = _text(state[1])

    def full_code(self) -> str:
        """Return NumPy's code of the type, such as <i8; only those of numbers and text are known."""
        match = _DTYPE.fullmatch(self.code)
        if not match:
            raise pickle.UnpicklingError(f"an array of {self.code!r} is not data")
        order = self.order if self.order in ("<", ">", "|", "=") else match[1]
        return order + match[2]


class _Array:
    """Stands for a NumPy array while a pickle is loaded; its bytes are not copied."""

    def __init__(self, *arguments: object) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype, self.is_fortran = _Dtype("u1"), False
        self.raw: bytes | bytearray = b""

    def __setstate__(self, state: tuple[object, ...]) -> None:
        shape, dtype, is_fortran, raw = state[-4:]
        self.filled(raw, dtype, shape, bool(is_fortran))

    def filled(self, raw: object, dtype: object, shape: object, is_fortran: bool) -> _Array:
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray) or not isinstance(shape, tuple):
            raise pickle.UnpicklingError("an array of Python objects is not data")
        self.shape, self.dtype, self.is_fortran = tuple(int(side) for side in shape), dtype, is_fortran
        self.raw = raw
        return self

    def value(self) -> object:
        """Return the array, a read-only view of the bytes, or the number where it has no dimension."""
        flat = np.frombuffer(self.raw, dtype=self.dtype.full_code())
        array = flat.reshape(self.shape, order="F" if self.is_fortran else "C")
        return array if self.shape else array.item()


class _Make(Protocol):
    def __call__(self, *arguments: object) -> object: ...


class _Maker:
    """Makes one kind of value; unlike a class or function it cannot be changed by what a file holds."""

    __slots__ = ("_make",)
    _make: _Make

    def __init__(self, make: _Make) -> None:
        object.__setattr__(self, "_make", make)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError("the file tries to change how it is read")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("the file tries to change how it is read")

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)


def _from_buffer(*arguments: object) -> _Array:
    raw, dtype, shape, order = arguments
    return _Array().filled(raw, dtype, shape, _text(order) == "F")


def _scalar(*arguments: object) -> _Array:
    dtype, raw = arguments
    return _Array().filled(raw, dtype, (), False)


def _encoded(*arguments: object) -> bytes:
    text, encoding = arguments
    if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1", "utf-8"):
        raise pickle.UnpicklingError("no encoded text")
    return text.encode(_text(encoding))


def _range(*bounds: object) -> list[int]:
    numbers = range(*(int(bound) for bound in bounds if isinstance(bound, int)))
    if len(numbers) > 1_000_000:
        raise pickle.UnpicklingError("a range of more than 1,000,000 numbers")
    return list(numbers)


def _ordered(*arguments: object) -> dict[object, object]:
    pairs = arguments[0] if arguments else []
    if not isinstance(pairs, list):
        raise pickle.UnpicklingError("no dictionary")
    return dict(pairs)


_MAKERS: dict[tuple[str, str], _Make] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,
    ("collections", "OrderedDict"): _ordered,
    ("collections", "defaultdict"): lambda *arguments: {},
    **dict.fromkeys([(f"{core}.multiarray", "_reconstruct") for core in _NUMPY_CORE], _Array),
    **dict.fromkeys([(f"{core}.multiarray", "scalar") for core in _NUMPY_CORE], _scalar),
    **dict.fromkeys([(f"{core}.numeric", "_frombuffer") for core in _NUMPY_CORE], _from_buffer),
    **dict.fromkeys([(module, name) for module in _BUILTINS for name in ("range", "xrange")], _range),
    **dict.fromkeys([(module, "bytes") for module in _BUILTINS], lambda *arguments: b""),
    # The factories of a defaultdict are named, and never called.
    **dict.fromkeys(
        [(module, name) for module in _BUILTINS for name in ("list", "int", "dict")], lambda *arguments: []
    ),
}


class _DataUnpickler(pickle.Unpickler):
    """Loads arrays, strings, numbers, lists and dictionaries, and refuses all else."""

    bytes_left = _MADE_BYTES

    def find_class(self, module: str, name: str) -> object:
        try:
            return _Maker(self._counted(_MAKERS[module, name]))
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not data") from None

    def _counted(self, make: _Make) -> _Make:
        """Return a function that makes the same, until too much is made: a few bytes may call it often."""

        def counted(*arguments: object) -> object:
            made = make(*arguments)
            size = len(made) if isinstance(made, bytes) else 40 * len(made) if isinstance(made, list | dict) else 0
            self.bytes_left -= size
            if self.bytes_left < 0:
                raise pickle.UnpicklingError("a file that unfolds to far more than its size")
            return made

        return counted


def load_data(stream: BinaryIO, where: str, *, expected: str) -> object:
    """Return what a pickle holds: arrays, strings, numbers, lists and dictionaries.

    Pickles of Python 2 are read as well; their strings become text (UTF-8, else Latin-1). Arrays are views of the
    bytes of the file, read-only: at the end one copy of them is in memory, while a file of Python 2 is read two.

    Args:
        stream: an open file.
        where: the file's name in messages.
        expected: what should have been there, for messages, as in "a CIFAR-100 file".

    Raises:
        DataError: the file is damaged, or names anything but plain data; nothing that it names is imported or run.
    """
    try:
        # With "bytes" the strings of Python 2 stay as they are; those that are no bytes of an array become text below.
        unpickler = _DataUnpickler(stream, encoding="bytes")
        size = stream.seek(0, 2) - stream.seek(0)
        unpickler.bytes_left = _MADE_BYTES + _MADE_RATIO * size
        loaded = unpickler.load()
        unpickler.memo.clear()  # of all that it has made; the functions that made it keep the unpickler
        return _plain(loaded, {}, 0)
    except Exception as error:  # loading a damaged pickle can raise nearly anything
        raise DataError(
            where,
            expected=expected,
            got=f"{type(error).__name__}: {first_line(error)}",
            why="The file is damaged, or holds more than plain data and was not loaded",
        ) from error


def read_pickle(path: Path, *, expected: str) -> object:
    """Read a pickle file; see `load_data`.

    Raises:
        DataError: also where the file cannot be opened, or has more than 8 GB.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(shown(path), expected=expected, got=f"a file of more than {_MAX_BYTES:,} bytes")
        with open_regular(path) as stream:
            return load_data(stream, shown(path), expected=expected)
    except (OSError, BoundError) as error:
        raise DataError(shown(path), expected="a file that can be read", got=first_line(error)) from error


def _text(value: object) -> str:
    """Return a string of Python 2 or 3 as text."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin1")
    if not isinstance(value, str):
        raise pickle.UnpicklingError(f"{type(value).__name__} in the place of text")
    return value


def _plain(value: object, done: dict[int, object], depth: int) -> object:
    """Return a loaded value with arrays for what stood for them; what is named twice is made once, in `done`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth > _MAX_DEPTH:
        raise pickle.UnpicklingError("lists in lists in lists, without an end")
    if id(value) in done:
        return done[id(value)]
    plain: object
    if isinstance(value, bytes):
        plain = _text(value)
    elif isinstance(value, _Array):
        plain = value.value()
    elif isinstance(value, dict):
        plain = {_plain(key, done, depth + 1): _plain(item, done, depth + 1) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        plain = [_plain(item, done, depth + 1) for item in value]
    else:
        raise pickle.UnpicklingError(f"{type(value).__name__} is not data")
    done[id(value)] = plain
    return plain
