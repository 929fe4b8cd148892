"""Dask clusters of this machine for tests: schedulers and workers that are processes, on the loopback interface."""

from __future__ import annotations

import warnings
from contextlib import contextmanager

import pytest


@contextmanager
def local_cluster(num_workers):
    """Yield a cluster of workers that take one job at a time."""
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Dask says of its own ends, and of ports in use, is not ours
        with distributed.LocalCluster(
            n_workers=num_workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            worker_dashboard_address=None,
            silence_logs=50,
        ) as cluster:
            yield cluster


def process_of_worker(cluster, address):
    """Return the id of the process of a worker."""
    with cluster.get_client() as client:
        return client.run(__import__("os").getpid, workers=[address])[address]
