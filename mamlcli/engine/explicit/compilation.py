"""Compile functions with `torch.compile`; where a compiler is missing or fails, the function runs as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Why compilation could not be had in this process, first reason first.
failures: list[str] = []


def failure() -> str | None:
    """Return why the first compilation that failed in this process did so, in words; None if none failed."""
    return failures[0] if failures else None


def has_compiler() -> bool:
    """Return whether a C++ compiler is where torch looks for one: $CXX, g++, clang++."""
    return any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a compiled function of tensors, one version per shape; the function itself from the first failure on."""
    return _CompiledOrNot(function)


class _CompiledOrNot(Generic[Arguments, Result]):
    def __init__(self, function: Callable[Arguments, Result]) -> None:
        self._plain = function
        self._compiled: Callable[Arguments, Result] | None = torch.compile(function, dynamic=False, fullgraph=True)

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if self._compiled is None:
            return self._plain(*args, **kwargs)
        try:
            return self._compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._compiled = None
            failures.append(" ".join(str(error).split("\n")[:2])[:200])
            return self._plain(*args, **kwargs)
