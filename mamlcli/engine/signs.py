"""Workers of a run give signs of life, so that a machine that is lost without a word ends the run soon.

A worker may compute for minutes while others wait for it, so the time that an exchange takes says nothing. A thread of
each other worker sends datagrams to worker 0, which sends them back. Where a network lets none through, nobody is
taken for lost: only who has given a sign can fall silent.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from mamlcli.common.errors import WorkerError
from mamlcli.common.processes.place import Place

# A sign is given so many times within the time after which a worker is lost, and at least this often.
_PER_TIMEOUT, _MOST_BETWEEN_S = 6, 5.0

# A worker that was itself stopped (Ctrl-Z) counts no more for it than so many times what it meant to wait.
_MOST_COUNTED = 2

_MOST_BYTES = 512


@dataclass(frozen=True)
class Invitation:
    """What worker 0 tells the others of signs of life.

    Attributes:
        port: of worker 0, to which they are sent; 0 for none.
        token: that each of them carries, so that no stranger's is taken for one.
        lost_after_s: seconds without one after which a worker is lost.
    """

    port: int
    token: str
    lost_after_s: float


@dataclass
class _Seen:
    """Another worker: its machine, and the seconds since its last sign."""

    host: str
    silent_s: float = 0.0


class Signs:
    """Gives this worker's signs of life from `start` to `stop`, and knows whose have ceased."""

    def __init__(self, place: Place, socket_: socket.socket | None, invitation: Invitation) -> None:
        self.invitation = invitation
        self._place, self._socket = place, socket_
        self._between_s = min(invitation.lost_after_s / _PER_TIMEOUT, _MOST_BETWEEN_S)
        self._sign = f"{invitation.token} {place.rank} {socket.gethostname()}".encode()
        self._seen: dict[int, _Seen] = {}
        self._is_over = threading.Event()

    @classmethod
    def leading(cls, place: Place, lost_after_s: float) -> Signs:
        """Return those of worker 0."""
        try:
            found = _receiver(is_here=place.address is None)
        except OSError:
            return cls(place, None, Invitation(0, "", lost_after_s))
        return cls(place, found, Invitation(found.getsockname()[1], secrets.token_hex(8), lost_after_s))

    @classmethod
    def following(cls, place: Place, invitation: Invitation) -> Signs:
        """Return those of another worker, which worker 0 has invited."""
        try:
            return cls(place, _sender(place, invitation.port) if invitation.port else None, invitation)
        except OSError:
            return cls(place, None, invitation)

    def start(self) -> None:
        """Begin to give signs, and to look for those of others."""
        if self._socket is not None:
            threading.Thread(target=self._work, args=(self._socket,), daemon=True, name="signs of life").start()

    def stop(self) -> None:
        """Give no more signs; the thread ends soon."""
        self._is_over.set()

    def check(self) -> None:
        """Raise WorkerError if the signs of another worker have ceased."""
        limit_s = self.invitation.lost_after_s
        lost = [f"{rank} on {seen.host}" for rank, seen in sorted(self._seen.items()) if seen.silent_s > limit_s]
        if not lost:
            return
        is_first = self._place.rank == 0
        raise WorkerError(
            "workers" if is_first else f"worker {self._place.rank}",
            expected=f"an answer of all {self._place.num_workers}" if is_first else "an answer of worker 0",
            got=f"no sign of life of worker {', '.join(lost)} for {limit_s:g} s (execution.worker_timeout)",
            why="It was stopped, or its machine is lost or cannot be reached",
            next_step=None if is_first else "The run goes on from its last checkpoint with --resume",
        )

    def _work(self, socket_: socket.socket) -> None:
        with socket_:
            before = time.monotonic()
            while not self._is_over.is_set():
                heard = self._answer(socket_) if self._place.rank == 0 else self._ask(socket_)
                now = time.monotonic()
                waited_s, before = min(now - before, _MOST_COUNTED * self._between_s), now
                for seen in list(self._seen.values()):
                    seen.silent_s += waited_s
                if heard is not None:
                    rank, host = heard
                    self._seen[rank] = _Seen(host)

    def _answer(self, socket_: socket.socket) -> tuple[int, str] | None:
        """As worker 0, wait for one sign and answer it; return whose it is."""
        heard = None
        with suppress(OSError):
            socket_.settimeout(self._between_s)
            data, sender = socket_.recvfrom(_MOST_BYTES)
            if heard := self._read(data):
                socket_.sendto(self._sign, sender)
        return heard

    def _ask(self, socket_: socket.socket) -> tuple[int, str] | None:
        """As another worker, give a sign and wait until the next; return what came back, if anything."""
        heard, until = None, time.monotonic() + self._between_s
        with suppress(OSError):
            socket_.send(self._sign)
            while (left_s := until - time.monotonic()) > 0:
                socket_.settimeout(left_s)
                heard = self._read(socket_.recv(_MOST_BYTES)) or heard
        self._is_over.wait(max(0.0, until - time.monotonic()))
        return heard

    def _read(self, data: bytes) -> tuple[int, str] | None:
        """Return number and machine of the worker that a sign is of; None for a stranger's."""
        words = data.decode(errors="replace").split(" ")
        is_ours = len(words) == 3 and words[0] == self.invitation.token and words[1].isdecimal()
        return (int(words[1]), words[2]) if is_ours else None


def _receiver(*, is_here: bool) -> socket.socket:
    """Return the socket of worker 0, on this machine alone or on all its addresses."""
    has_both = not is_here and socket.has_dualstack_ipv6()
    found = socket.socket(socket.AF_INET6 if has_both else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if has_both:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        found.bind(("127.0.0.1" if is_here else "", 0))
    except OSError:
        found.close()
        raise
    return found


def _sender(place: Place, port: int) -> socket.socket:
    """Return the socket of another worker, connected to worker 0."""
    host = place.address.rpartition(":")[0].strip("[]") if place.address else "127.0.0.1"
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    found = socket.socket(family, kind, protocol)
    try:
        found.connect(address)
    except OSError:
        found.close()
        raise
    return found
