"""This module counts the bytes that the operations of an implementation read and write."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operations of ATen that write their first argument without reading it.
_OVERWRITE = {"copy_", "fill_", "zero_"}

# Operations that take memory and neither read nor write it.
_TAKE_MEMORY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


@dataclass
class Traffic:
    """Bytes that were read and written."""

    num_bytes: float = 0.0


_counted: ContextVar[Traffic | None] = ContextVar("counted", default=None)


@contextmanager
def traffic_counted() -> Iterator[Traffic]:
    """Count the bytes of all operations of this thread.

    Every operation of torch counts each tensor that it is given and each that it returns once, as if no cache held
    anything between operations and every operation passed over its tensors once; a view counts nothing, nor does a
    dimension that is expanded. What is compiled elsewhere is added by `add_traffic`.
    """
    traffic = Traffic()
    token = _counted.set(traffic)
    try:
        with _Counter():  # type: ignore[no-untyped-call]
            yield traffic
    finally:
        _counted.reset(token)


def add_traffic(num_bytes: float) -> None:
    """Add bytes to what is counted; nothing where nothing is."""
    traffic = _counted.get()
    if traffic is not None:
        traffic.num_bytes += num_bytes


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "overloadpacket", func).__name__
        add_traffic(_bytes_of(name, args, kwargs or {}, result))
        return result


def _bytes_of(name: str, args: Sequence[object], kwargs: Mapping[str, object], result: object) -> int:
    """Return the bytes that one operation reads and writes."""
    if name in _TAKE_MEMORY:
        return 0
    written_into = _tensors([value for key, value in kwargs.items() if key.startswith("out")])
    inputs = _tensors([args, [value for key, value in kwargs.items() if not key.startswith("out")]])
    outputs = _tensors(result)
    places = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    is_changing = name.endswith("_") or bool(written_into)
    if not is_changing:
        outputs = [tensor for tensor in outputs if tensor.untyped_storage().data_ptr() not in places]
        if not outputs:
            return 0  # a view, or a question about a tensor
    read = inputs[1:] if name in _OVERWRITE else inputs
    return sum(map(_size, read)) + sum(map(_size, outputs))


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _size(tensor: Tensor) -> int:
    """Return the bytes of the entries that are apart in memory."""
    if tensor.layout != torch.strided:
        return tensor.numel() * tensor.element_size()
    apart = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return math.prod(apart) * tensor.element_size()
