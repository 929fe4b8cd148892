"""Replays work on a GPU that is always the same: recorded once for each set of shapes as a CUDA graph, then one launch.

The meta-gradient of a chunk is some 1500 small kernels, which a GPU ends sooner than Python starts them. A recording
reads from and writes to tensors that stay where they are: inputs are copied into them, and outputs out of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from mamlcli.common.errors import MamlError
from mamlcli.common.words import first_line

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

# What an output is not, an input does not change: a parameter that no task uses has no gradient.
Outputs = Sequence[Tensor | None]

# Tensors -> tensors, by operations on the device alone whose shapes depend on those of the inputs alone.
Work = Callable[[Sequence[Tensor]], Outputs]

# How far a replayed output may be from the computed one, relative to the largest entry of the tensor. The kernels are
# the same, so are their results as a rule; what a recording leaves out or reads elsewhere is off by the order of 1.
TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-8}

# Recordings that are kept, of the shapes that came last: the chunks of a meta-batch have two sizes at most.
_MOST_KEPT = 4

# Calls before a recording: in the first, libraries make their handles and workspaces, which a recording must not.
_WARM_UPS = 2


class Recorder(Protocol):
    """Records work on a device."""

    def warm_up(self, function: Callable[[], object]) -> None:
        """Call a function as `record` will, without recording."""
        ...

    def record(self, function: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        """Return (what does the work of a function again, the outputs, which it overwrites)."""
        ...


class CudaRecorder:
    """Records CUDA graphs by `torch.cuda.graph`; all recordings of one object share their memory.

    They may, as no output is read after another recording was replayed. Nothing of CUDA is called before the first.

    Args:
        device: a CUDA device.

    Source: the notes on CUDA graphs in PyTorch's CUDA semantics: warm up and record on one side stream, inputs and
    outputs that stay, one pool of memory for all recordings.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory: _POOL_HANDLE | None = None

    def warm_up(self, function: Callable[[], object]) -> None:
        with torch.cuda.device(self._device):
            stream, current = _side_stream(self._device), torch.cuda.current_stream()
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                function()
            current.wait_stream(stream)

    def record(self, function: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        with torch.cuda.device(self._device):
            if self._memory is None:
                self._memory = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._memory, stream=_side_stream(self._device)):
                outputs = function()
        return graph.replay, outputs


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of all recordings on a device: a library's workspace is kept for each stream that it sees."""
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


@dataclass(frozen=True)
class _Recording:
    """Holds recorded work with the tensors that it reads and overwrites."""

    inputs: list[Tensor]
    outputs: Outputs
    replay: Callable[[], None]

    def __call__(self, inputs: Sequence[Tensor]) -> Outputs:
        for own, value in zip(self.inputs, inputs, strict=True):
            own.copy_(value, non_blocking=True)
        self.replay()
        return [None if value is None else value.clone() for value in self.outputs]


@dataclass
class Graphs:
    """Does work by replaying it where a recording gave the same outputs, else as it is.

    Attributes:
        recorder: records it.
        is_required: whether it is an error where a recording cannot be had.
        on_note: called with one line that says why there is none.
        reason: why nothing is recorded any more, in words; None as long as all recordings were right.
    """

    recorder: Recorder
    is_required: bool = False
    on_note: Callable[[str], None] | None = None
    reason: str | None = None
    _recordings: dict[Hashable, _Recording] = field(default_factory=dict)

    def __call__(self, work: Work, inputs: Sequence[Tensor], key: Hashable) -> Outputs:
        """Return the outputs of `work` for these inputs, detached; results are the caller's own.

        Args:
            work: is recorded at its first call with a key and with inputs of these shapes and number types.
            inputs: on the recorder's device.
            key: of all else that the outputs depend on.

        Raises:
            MamlError: a recording is required, and failed or is wrong.
        """
        if self.reason is not None:
            return work(inputs)
        whole = (key, *((value.shape, value.dtype, value.device) for value in inputs))
        recording = self._recordings.pop(whole, None)
        if recording is None:
            recording, outputs = self._checked(work, inputs)
            if recording is None:
                return outputs
        else:
            outputs = recording(inputs)
        self._recordings[whole] = recording  # the last of them is the one used last
        while len(self._recordings) > _MOST_KEPT:
            del self._recordings[next(iter(self._recordings))]
        return outputs

    def _checked(self, work: Work, inputs: Sequence[Tensor]) -> tuple[_Recording | None, Outputs]:
        """Return (a recording that gives what `work` gives, or None; the outputs).

        The outputs are those of the recording where there is one, so that the first iteration of a run that goes on
        has the bits that it would have had in between.
        """
        expected = work(inputs)
        try:
            recording = self._recorded(work, inputs)
            found = recording(inputs)
            error = _why_different(found, expected)
        except RuntimeError as failure:  # also those of the device, and too little memory
            error = first_line(failure)
        if error is None:
            return recording, found
        self._give_up(error)
        return None, expected

    def _recorded(self, work: Work, inputs: Sequence[Tensor]) -> _Recording:
        # Recorded on zeros: what of these inputs the work keeps elsewhere than in them, the check finds.
        own = [torch.zeros_like(value, memory_format=torch.contiguous_format) for value in inputs]
        for _ in range(_WARM_UPS):
            self.recorder.warm_up(lambda: work(own))
        replay, outputs = self.recorder.record(lambda: work(own))
        return _Recording(own, outputs, replay)

    def _give_up(self, error: str) -> None:
        self._recordings.clear()
        if self.is_required:
            raise MamlError(
                "execution.cuda_graphs",
                expected="a meta-gradient that can be recorded as a CUDA graph",
                got=error,
                next_step="Set execution.cuda_graphs=auto, which goes on without",
            )
        self.reason = error
        if self.on_note is not None:
            self.on_note(f"execution.cuda_graphs: off, {error}; results are the same without")


def _why_different(found: Outputs, expected: Outputs) -> str | None:
    """Return in words why replayed outputs are not those that were computed; None where they are, up to rounding.

    The error of a tensor is relative to its largest entry, but at least a thousandth of the largest entry of all.
    """
    if [value is None for value in found] != [value is None for value in expected]:
        return "the recording gives other outputs"
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None and b is not None]
    sizes = [float(_finite(b).abs().max()) if b.numel() else 0.0 for _, b in pairs]
    floor = 1e-3 * max(sizes, default=0.0)
    for (a, b), size in zip(pairs, sizes, strict=True):
        error = float(_finite(a - b).abs().max()) if b.numel() else 0.0
        is_alike = torch.equal(a.isfinite(), b.isfinite())
        if not (is_alike and error <= TOLERANCES.get(b.dtype, 0.0) * max(size, floor)):
            relative = error / max(size, floor) if max(size, floor) else math.inf
            return f"the replayed meta-gradient differs from the computed one by {relative:.1e} of its largest entry"
    return None


def _finite(value: Tensor) -> Tensor:
    return value.detach().nan_to_num(0.0, 0.0, 0.0)
