"""A worker waits for others here, in steps: so it hears signals and of lost workers, which torch's waiting does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist

from mamlcli.common.errors import Interrupted, WorkerError

# How often a worker that waits looks whether it was told to stop; how long the others then have to answer.
_LOOK_S = 0.5
STOP_S = 5.0

# How often a worker looks whether GPUs have exchanged what they had to.
_LOOK_AT_GPUS_S = 1e-4


@dataclass
class Waiting:
    """Waits for other workers until they answer, or a while after this one was told to stop.

    Attributes:
        is_asked: whether this worker was told to stop.
        check: raises where another worker is lost.
        is_given_up: whether something was not waited for to its end. It goes on in a thread of torch, which the end of
            Python would wait for.
    """

    is_asked: Callable[[], bool] = bool
    check: Callable[[], object] = bool
    is_given_up: bool = False

    def call(self, function: Callable[[], object], *, most_s: float | None = None) -> None:
        """Call a function that waits for other workers, in a thread of its own.

        Args:
            function: what it raises is raised here.
            most_s: seconds after which it is given up without an error.

        Raises:
            Interrupted: this worker was told to stop, and the others did not answer.
            WorkerError: another worker is lost.
        """
        errors: list[BaseException] = []

        def work() -> None:
            try:
                function()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True, name="waiting")
        thread.start()

        def is_over(wait_s: float) -> bool:
            thread.join(wait_s)
            return not thread.is_alive()

        self._until(is_over, most_s)
        if errors:
            raise errors[0]

    def finish(self, work: dist.Work, *, on_gpus: bool) -> None:
        """Wait for an exchange that has begun; what it raises is raised here.

        Raises:
            Interrupted: this worker was told to stop, and the others did not answer.
            WorkerError: another worker is lost.
        """

        def is_over(wait_s: float) -> bool:
            if on_gpus:  # waiting for a while and no longer would end their connection
                time.sleep(_LOOK_AT_GPUS_S)
            elif not work.is_completed():
                try:
                    work.wait(timedelta(seconds=wait_s))
                except RuntimeError:
                    return work.is_completed()
            return work.is_completed()

        self._until(is_over, None)
        work.wait()

    def _until(self, is_over: Callable[[float], bool], most_s: float | None) -> None:
        began = time.monotonic()
        deadline = None if most_s is None else began + most_s
        try:
            while not is_over(_LOOK_S):
                now = time.monotonic()
                if most_s is None and deadline is None and self.is_asked():
                    deadline = now + STOP_S
                if deadline is not None and now > deadline:
                    self.is_given_up = True
                    if most_s is None:
                        raise Interrupted("interrupted while waiting for the other workers. Continue with --resume")
                    return
                self.check()
        except (KeyboardInterrupt, WorkerError):
            self.is_given_up = True
            raise
