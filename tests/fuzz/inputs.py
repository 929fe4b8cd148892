"""Strategies: texts, numbers and JSON that are hard to read, and bytes of good files with something wrong in them."""

from __future__ import annotations

from hypothesis import strategies as st

STRANGE_TEXTS = [
    "",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\ud800",
    "\udcfc",
    "\0",
    "../../../etc/passwd",
    "/dev/zero",
    "a\nb",
    "\u202eright",
    "x" * 5000,
    "{x!r:1000000000}",
    "%s%n",
    "null",
    "~",
    "[red]",
]
STRANGE_NUMBERS = [0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.0, -0.0, 1e308, 1e-300]

texts = st.one_of(st.sampled_from(STRANGE_TEXTS), st.text(max_size=20))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(STRANGE_NUMBERS),
    st.integers(),
    st.floats(allow_subnormal=False),  # once a run flushes them to zero, hypothesis cannot make them
    texts,
)
values = st.recursive(
    scalars,
    lambda below: st.one_of(st.lists(below, max_size=4), st.dictionaries(texts, below, max_size=4)),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, data: bytes) -> bytes:
    """Return bytes of a file cut, changed, repeated or with others in the middle, in up to three places."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(("cut", "flip", "insert", "repeat", "remove", "number")))
        size = draw(st.integers(1, 64))
        if kind == "cut":
            data = data[:place]
        elif kind == "flip":
            data = data[:place] + bytes([draw(st.integers(0, 255))]) + data[place + 1 :]
        elif kind == "insert":
            data = data[:place] + draw(st.binary(max_size=40)) + data[place:]
        elif kind == "repeat":
            data = data[:place] + data[place : place + size] * draw(st.integers(1, 50)) + data[place:]
        elif kind == "remove":
            data = data[:place] + data[place + size :]
        else:
            number = draw(st.sampled_from((0, 1, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1)))
            order = draw(st.sampled_from(("little", "big")))
            data = data[:place] + number.to_bytes(4, order) + data[place + 4 :]
    return data
