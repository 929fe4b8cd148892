"""Keeps what `mamlcli bench --tune` measured on this machine, by what it was measured for.

One JSON file in the user's cache folder, named for the machine: key -> the execution that was fastest. A choice is
found again only for the same shapes, device, threads and torch; anything else has another key.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mamlcli.common.disk import write_error
from mamlcli.common.errors import MamlError
from mamlcli.common.files import atomic_write, cache_dir, json_text
from mamlcli.engine.execution import Execution
from mamlcli.engine.networks import Network
from mamlcli.engine.sizes import activation_size


@dataclass(frozen=True)
class TimeSpread:
    """The seconds of several measurements of one thing: their median, extremes and number."""

    median: float
    min: float
    max: float
    repeats: int


@dataclass(frozen=True)
class TunedChoice:
    """A way of running tasks that was measured.

    Attributes:
        execution: the way.
        threads: CPU threads it used; None where the file does not say.
        seconds_per_meta_iteration: how long it took; None where the file does not say.
        recipe: the name of the recipe it was measured on; None before it is stored.
    """

    execution: Execution
    threads: int | None = None
    seconds_per_meta_iteration: TimeSpread | None = None
    recipe: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return what the file of choices holds; what is not known is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, value: object) -> TunedChoice | None:
        """Return the choice of which `to_json` gave the value; None if there is no such choice."""
        if not isinstance(value, dict):
            return None
        try:
            seconds = value.get("seconds_per_meta_iteration")
            return cls(
                Execution(**value["execution"]),
                value.get("threads"),
                None if seconds is None else TimeSpread(**seconds),
                value.get("recipe"),
            )
        except (KeyError, TypeError):
            return None


def tuned_path() -> Path:
    """Return the file of this machine's choices."""
    node = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in platform.node())
    return cache_dir() / f"tuned-{node or 'machine'}.json"


def tuning_key(
    network: Network,
    *,
    inner: Mapping[str, object],
    num_inputs: int,
    num_tasks: int,
    num_steps: int,
    device: torch.device,
    dtype: torch.dtype,
    threads: int,
) -> str:
    """Return the key of a choice: a hash of all that the fastest execution depends on.

    Args:
        network: its layers and shapes count, its values do not.
        inner: the keys of `recipe.inner`, primitives; `lr` and `steps` are not counted.
        num_inputs: of one task, support and query.
        num_tasks: tasks of a meta-batch.
        num_steps: inner steps that keep a graph.
        device, dtype: where and in what precision; the name of a GPU counts.
        threads: CPU threads.
    """
    facts = {
        "network": repr(network),
        "parameters": [[name, *parameter.shape] for name, parameter in network.named_parameters()],
        "input_shape": network.input_shape,
        "activations": activation_size(network),
        "inner": {name: value for name, value in inner.items() if name not in ("lr", "steps")},
        "sizes": [num_inputs, num_tasks, num_steps],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": str(dtype),
        "threads": threads,
        "torch": torch.__version__,
    }
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def load_tuned(key: str, *, on_problem: Callable[[str], None] | None = None) -> TunedChoice | None:
    """Return the choice that was stored under a key; None if there is none.

    Args:
        key: from `tuning_key`.
        on_problem: called with one line where the file is there but cannot be used; it is ignored then.
    """
    return None if _is_ignored.get() else TunedChoice.from_json(_read(on_problem).get(key))


_is_ignored: ContextVar[bool] = ContextVar("is_ignored", default=False)


@contextmanager
def tuned_ignored() -> Iterator[None]:
    """Ignore the stored choices for a while, so that what is chosen without measuring can be asked for."""
    token = _is_ignored.set(True)
    try:
        yield
    finally:
        _is_ignored.reset(token)


def store_tuned(key: str, choice: TunedChoice) -> Path:
    """Add a choice to the file of this machine under a key, and return the path of the file.

    A damaged file is replaced.

    Raises:
        MamlError: the cache folder cannot be written.
    """
    path = tuned_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json_text({**_read(None), key: choice.to_json()}).encode())
    except OSError as error:
        raise write_error(
            error,
            str(path),
            expected="a file that can be written",
            next_step="Name another cache folder in XDG_CACHE_HOME",
            kind=MamlError,
        ) from error
    return path


def _read(on_problem: Callable[[str], None] | None) -> dict[str, object]:
    path = tuned_path()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
        problem = f"it holds a {type(content).__name__}"
    except (OSError, ValueError, RecursionError) as error:  # no JSON and no text are both ValueErrors
        if not os.path.lexists(path):  # the cache folder may be missing, closed to the user, or a file
            return {}
        problem = (str(error).splitlines() or [type(error).__name__])[0]
    if on_problem is not None:
        on_problem(f"{path}: expected choices of mamlcli bench --tune, ignored: {problem}")
    return {}
