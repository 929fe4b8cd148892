"""The workers of a run are joined by torch.distributed: each computes its share of the tasks, and all get the sums.

Every worker goes through the same outer loop with the same state. Tasks are keyed by their place in the meta-batch, so
their number does not depend on that of the workers; what one worker has to itself is writing, which worker 0 does.
Objects travel by gloo, meta-gradients by gloo on the CPU and by nccl between GPUs.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

from mamlcli.common.errors import DeviceError, WorkerError
from mamlcli.common.processes.place import Place
from mamlcli.engine.execution import MetaGradient
from mamlcli.engine.signs import Invitation, Signs
from mamlcli.engine.waiting import STOP_S, Waiting

Value = TypeVar("Value")


# For a worker that never comes. Minutes, because worker 0 may read a large folder of images before it leads the others.
# From then on one whose machine is lost is noticed by `signs`, and one that ends, or is killed, at once.
TIMEOUT = timedelta(minutes=15)


@dataclass
class WorkerGroup:
    """The workers of a run, seen from one of them. `ALONE` is a run in one process.

    Attributes:
        place: of this worker; None for a run in one process.
        is_stopping: whether a worker was asked to stop, as all of them know since their last exchange.
        has_led: whether this is worker 0 and has sent its plan of the run.
        waiting: how it waits for the others.
    """

    place: Place | None = None
    is_stopping: bool = False
    has_led: bool = False
    waiting: Waiting = field(default_factory=Waiting)
    _is_asked: Callable[[], bool] = bool
    _gpus: dist.ProcessGroup | None = None
    _signs: Signs | None = None

    @property
    def rank(self) -> int:
        """Return the number of this worker, from 0."""
        return self.place.rank if self.place else 0

    @property
    def num_workers(self) -> int:
        """Return the number of workers, 1 for a run in one process."""
        return self.place.num_workers if self.place else 1

    def share(self, num_tasks: int) -> range:
        """Return the indices of this worker's tasks: contiguous, and as many as any other's or one less."""
        return share_of(num_tasks, self.rank, self.num_workers)

    def use_device(self, device: torch.device) -> None:
        """Compute on this worker's own GPU, or with one thread of the CPU unless the recipe says otherwise.

        Raises:
            DeviceError: there are more workers on this machine than GPUs.
        """
        if self.place is None:
            return
        if device.type != "cuda":
            torch.set_num_threads(1)
            return
        count = torch.cuda.device_count()
        if self.place.num_local > count:
            raise DeviceError(
                "--workers",
                expected=f"at most {count} on this machine, one for each of its GPUs",
                got=str(self.place.num_local),
                next_step="Use fewer, or --device cpu",
            )
        torch.cuda.set_device(self.place.local_rank)

    def lead(self, plan: object, device: torch.device, *, lost_after_s: float) -> None:
        """As worker 0, send the plan of the run to the others; then all are connected by their devices, too.

        Args:
            plan: that `follow` returns.
            device: that the workers compute on.
            lost_after_s: a worker is lost that gives no sign of life for so many seconds from now on.
        """
        if self.place is None:
            return
        signs = Signs.leading(self.place, lost_after_s)
        self._broadcast((plan, signs.invitation))
        self.has_led = True
        self._give(signs)
        self.connect(device)

    def follow(self, kind: type[Value]) -> Value | None:
        """As another worker, wait for worker 0's plan, of the given type; None if there is no run. Then `connect`."""
        led: tuple[object, Invitation] | None = self._broadcast(None)
        if led is None or self.place is None:
            return None
        plan, invitation = led
        assert isinstance(plan, kind), "worker 0 led with another type"
        self._give(Signs.following(self.place, invitation))
        return plan

    def _give(self, signs: Signs) -> None:
        self._signs, self.waiting.check = signs, signs.check
        signs.start()

    def end(self) -> None:
        """Leave the other workers: give no signs of life any more."""
        if self._signs is not None:
            self._signs.stop()

    def connect(self, device: torch.device) -> None:
        """Connect the workers' devices, all at the same time."""
        if device.type == "cuda":
            with self._exchange():
                group = dist.new_group(backend="nccl", timeout=TIMEOUT)
            assert isinstance(group, dist.ProcessGroup), "all workers are members"
            self._gpus = group

    def dismiss(self) -> None:
        """As worker 0, tell the others, which wait in `follow`, that there is no run; nothing if one has begun."""
        if self.place is not None and self.rank == 0 and not self.has_led:
            with suppress(WorkerError):
                self._broadcast(None, most_s=STOP_S)

    def agree(self, is_asked: Callable[[], bool]) -> Callable[[], bool]:
        """Return a function that says whether to stop, the same in all workers after each exchange.

        Args:
            is_asked: whether this worker was asked to.
        """
        if self.place is None:
            return is_asked
        self._is_asked = self.waiting.is_asked = is_asked
        return lambda: self.is_stopping

    def all_reduce(self, of_share: MetaGradient, num_tasks: int) -> MetaGradient:
        """Return the meta-gradient of a whole meta-batch, the same bits in all workers.

        grad = sum over workers of (share / num_tasks) * grad of the share's mean. Losses and accuracies come back in
        the order of the tasks. All that is known of an iteration is one vector, so there is one exchange.

        Args:
            of_share: of this worker's share of the tasks.
            num_tasks: of the meta-batch.

        Raises:
            WorkerError: another worker is gone.
        """
        if self.place is None:
            return of_share
        share = self.share(num_tasks)
        weight = len(share) / num_tasks
        first = next(iter(of_share.gradients.values()))
        scores = first.new_zeros(2, num_tasks)
        scores[0, share.start : share.stop] = of_share.outer_loss
        scores[1, share.start : share.stop] = of_share.accuracy
        flags = first.new_tensor([float(self._is_asked())])
        parts = [*(gradient * weight for gradient in of_share.gradients.values()), scores, flags]
        vector = torch.cat([part.reshape(-1) for part in parts])
        with self._exchange():
            work = dist.all_reduce(vector, group=self._gpus, async_op=True)
            self.waiting.finish(work, on_gpus=self._gpus is not None)
            pieces = torch.split(vector, [part.numel() for part in parts])
            sums = [piece.view_as(part) for piece, part in zip(pieces, parts, strict=True)]
            self.is_stopping = bool(sums[-1].item())
        gradients = dict(zip(of_share.gradients, sums, strict=False))
        losses, accuracies = sums[-2]
        return MetaGradient(gradients, losses.to(of_share.outer_loss.dtype), accuracies.to(of_share.accuracy.dtype))

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all workers in their order.

        Raises:
            WorkerError: another worker is gone.
        """
        if self.place is None:
            return [value]
        answer = (value, self._is_asked())
        answers = [answer] * self.num_workers  # each is replaced by its worker's
        with self._exchange():
            self.waiting.call(lambda: dist.all_gather_object(answers, answer))
        self.is_stopping = any(is_asked for _, is_asked in answers)
        return [value for value, _ in answers]

    def broadcast(self, value: Value) -> Value:
        """Return worker 0's value.

        Raises:
            WorkerError: worker 0 is gone.
        """
        return value if self.place is None else self._broadcast(value)

    def _broadcast(self, value: Value, *, most_s: float | None = None) -> Value:
        box = [value]
        with self._exchange():
            self.waiting.call(lambda: dist.broadcast_object_list(box, src=0), most_s=most_s)
        return box[0]

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise WorkerError(
                "workers",
                expected=f"an answer of all {self.num_workers}",
                got=_first_line(error),
                why="One of them has ended, or its machine cannot be reached",
            ) from error


ALONE = WorkerGroup()


def share_of(num_tasks: int, rank: int, num_workers: int) -> range:
    """Return the indices of one worker's tasks: contiguous, sizes differing by at most one, the larger ones first."""
    size, larger = divmod(num_tasks, num_workers)
    start = rank * size + min(rank, larger)
    return range(start, start + size + (rank < larger))


@contextmanager
def joined(place: Place, waiting: Waiting | None = None) -> Iterator[WorkerGroup]:
    """Join the workers of a run, for as long as the context lasts.

    Args:
        place: of this worker.
        waiting: how it waits for the others.

    Raises:
        WorkerError: they do not meet.
    """
    group = WorkerGroup(place, waiting=waiting or Waiting())
    try:
        group.waiting.call(lambda: _meet(place))
    except (RuntimeError, ValueError) as error:
        where, expected = f"worker {place.rank}", f"to meet all {place.num_workers} workers"
        if (unmet := _NO_NETWORK.search(str(error))) is not None:
            why, next_step = _network_words()
            raise WorkerError(where, expected=expected, got=unmet[0], why=why, next_step=next_step) from error
        raise WorkerError(where, expected=expected, got=_first_line(error)) from error
    try:
        yield group
    finally:
        group.end()
        # What is left of a failed exchange between GPUs could be waited for without end; the process ends anyway.
        if group._gpus is None and not group.waiting.is_given_up:
            dist.destroy_process_group()


def _meet(place: Place) -> None:
    if not dist.is_available():
        raise RuntimeError("a torch that is built without torch.distributed")
    where = "env://" if place.address is None else f"tcp://{place.address}"
    if place.rendezvous is not None:
        where = Path(place.rendezvous).as_uri()
    dist.init_process_group("gloo", where, timeout=TIMEOUT, rank=place.rank, world_size=place.num_workers)


# What gloo says where it finds no address to bind to.
_NO_NETWORK = re.compile(r"[Uu]nable to (?:find|resolve) (?:interface|address|hostname)[^\n]*|.*getaddrinfo[^\n]*")


def _network_words() -> tuple[str, str]:
    """Return why workers have no network to meet over, and what to set."""
    variable = "GLOO_SOCKET_IFNAME"
    named = os.environ.get(variable)
    interfaces = ", ".join(name for _, name in socket.if_nameindex()) or "none"
    why = f"Workers meet over a network interface. This machine has: {interfaces}; {variable} is {named or 'not set'}"
    return why, (
        f"Set {variable} to one that is up: lo (lo0 on a Mac) where all workers are on this machine, else that of your "
        "network. Where lo itself is down: ip link set lo up"
    )


def _first_line(error: Exception) -> str:
    """Return the first sentence of an error, less the line of gloo's source before it and the advice after it."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[[^]]*\.cc:\d+\] ", "", text).partition(". ")[0].rstrip(".")
