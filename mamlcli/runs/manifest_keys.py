"""Says what each key of manifest.json may hold; a file with anything else there is refused, with the key and the value.

Every key may be missing or null, as earlier versions wrote fewer of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from mamlcli.common.json_reading import finite, items, mapping, text, truth, whole, wrong

Check = Callable[[object, str], object]

_MOST_PROCESSES = 4096  # no machine has more workers, or threads of one
_MOST_SIZE = 1 << 31  # of a tensor in one dimension
_MOST_AMOUNT = 1e12  # seconds, megabytes


def _list_of(kind: Check) -> Check:
    return lambda value, key: items(value, key, kind)


def _keys(kinds: Mapping[str, Check], *, needed: bool = False) -> Check:
    """Return the check of an object that has these keys, which may be missing unless they are needed."""

    def check(value: object, key: str) -> None:
        content = mapping(value, key)
        for name, kind in kinds.items():
            inner = content.get(name)
            if needed or inner is not None:
                kind(inner, f"{key}.{name}")

    return check


def _values(kind: Check) -> Check:
    """Return the check of an object whose values are all of one kind."""

    def check(value: object, key: str) -> None:
        for name, inner in mapping(value, key).items():
            kind(inner, f"{key}.{name}")

    return check


def _amount(value: object, key: str) -> None:
    if not 0 <= finite(value, key) <= _MOST_AMOUNT:
        raise wrong(key, "a number from 0", value)


_size = partial(whole, least=1, most=_MOST_SIZE)
_processes = partial(whole, least=1, most=_MOST_PROCESSES)
_seed = partial(whole, least=-(2**64), most=2**64)

_EXECUTION = _keys(
    {
        "path": text,
        "chunk": _size,
        "parallel": _processes,
        "compile": truth,
        "graphs": truth,
        "threads": _processes,
        "dtype": text,
        "workers": _processes,
        "replicas": _size,
        "host": text,
        "gpu": text,
    }
)
_DATA = _keys({"source": text, "digest": text, "pack": text})
_GIT = _keys({"commit": text, "is_dirty": truth})

# What a session of training notes of itself, under "parts" and, of the last one, also beside the other keys.
PART: Mapping[str, Check] = {
    "argv": _list_of(text),
    "device": text,
    "execution": _EXECUTION,
    "data": _DATA,
    "versions": _values(text),
    "git": _GIT,
}

CHECKS: Mapping[str, Check] = {
    **PART,
    "recipe_name": text,
    "status": text,
    "reason": text,
    "error": text,
    "started_at": text,
    "finished_at": text,
    "resumed_from": _list_of(whole),
    "iterations_done": whole,
    "wall_s": _amount,
    "seed": _seed,
    "evaluation_seed": _seed,
    "num_parameters": whole,
    "num_transform_parameters": whole,
    "peak_memory_mb": _amount,
    "network": _keys({"input_shape": _list_of(_size), "num_outputs": _size}, needed=True),
    "given": _values(mapping),
    "plugins": _values(_keys({"name": text, "package": text, "version": text})),
    "typed_path": text,
    "typed_in": text,
    "started_from": _keys({"run": text, "weights": text, "digest": text}),
    "changes": _list_of(_keys({"key": text, "iteration": whole})),
    "earlier_results": _list_of(_keys({"iterations": whole, "final": mapping})),
    "parts": _list_of(_keys({"iteration": whole, "started_at": text, **PART})),
    "recipe": _keys({"sha256": text, "keys": mapping}, needed=True),
    "metrics": _keys({"bytes": whole, "sha256": text}, needed=True),
    "noticed": _list_of(text),
}
