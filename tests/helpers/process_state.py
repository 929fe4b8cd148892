"""All of a process that a call from Python could change, so that tests can compare it before and after."""

from __future__ import annotations

import locale
import logging
import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
import warnings

import matplotlib
import numpy as np
import torch

_CUDNN = ("enabled", "benchmark", "deterministic", "allow_tf32")


def process_state() -> dict[str, object]:
    """Return everything by name, in values that can be compared."""
    return {
        "threads of one operation": torch.get_num_threads(),
        "threads between operations": torch.get_num_interop_threads(),
        "small numbers": small_numbers(),
        "generator of torch": torch.random.get_rng_state().tolist(),
        "generator of numpy": repr(np.random.get_state()),
        "generator of random": random.getstate(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.get_deterministic_debug_mode()),
        "default dtype and device": (torch.get_default_dtype(), torch.get_default_device()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "precision": torch.get_float32_matmul_precision(),
        "cudnn": [getattr(torch.backends.cudnn, key) for key in _CUDNN],
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "logging": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "folder": os.getcwd(),
        "umask": umask(),
        "matplotlib": dict(matplotlib.rcParams),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.gettrace()),
        "streams": (sys.stdout, sys.stderr, sys.stdin),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "numpy errors": np.geterr(),
        "recursion": sys.getrecursionlimit(),
        "paths": list(sys.path),
        "arguments": list(sys.argv),
        "locale": locale.setlocale(locale.LC_ALL),
        "time to wait": socket.getdefaulttimeout(),
    }


def small_numbers() -> tuple[float, int]:
    """Return 1e-40 as this thread computes it, and how many of many are zero, which all threads compute together."""
    tiny = torch.full((1_000_000,), 1e-40, dtype=torch.float32, device="cpu") * 1
    return float(tiny[0]), int((tiny == 0).sum())


def umask() -> int:
    """Return which permissions new files do not get."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
