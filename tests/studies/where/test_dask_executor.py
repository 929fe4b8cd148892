"""Jobs on a Dask cluster: retried where a worker was killed, stopped, taken back. The jobs load no torch."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("distributed")
from distributed import Client

from mamlcli.common.errors import Interrupted, MamlError
from mamlcli.common.processes.fresh import fresh_python
from mamlcli.common.processes.jobs import Job
from mamlcli.common.processes.pool import run_jobs
from mamlcli.studies.where.connection import Connection
from mamlcli.studies.where.dask_executor import DaskExecutor
from tests.helpers.clusters import local_cluster
from tests.helpers.jobs import count_and_fail, die_once, end_itself, look, wait_for_word
from tests.helpers.processes import is_alive, wait_for


@pytest.fixture(scope="module")
def cluster():
    with local_cluster(2) as made:
        yield made


@pytest.fixture
def executor(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        made = DaskExecutor(Connection(client, "a cluster"), num_processes=2, num_threads=1)
        yield made
        made.end()


def test_jobs_run_in_children_of_the_workers_in_the_drivers_folder_and_the_children_are_kept(executor, tmp_path):
    ended = []
    jobs = [Job(name, look, None) for name in "abcdef"]
    outcomes = run_jobs(jobs, executor=executor, on_end=lambda outcome: ended.append(outcome.key))
    assert sorted(ended) == sorted(outcomes) == list("abcdef")
    values = [outcome.value for outcome in outcomes.values()]
    assert {value["folder"] for value in values} == {str(tmp_path)}
    assert {value["data"] for value in values} == {str(tmp_path / "data")}
    assert len({value["pid"] for value in values}) <= 2
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert all(outcome.where.endswith(", 2 workers") for outcome in outcomes.values())


def test_a_job_whose_worker_is_killed_is_done_by_another_and_its_child_does_not_live_on(executor, tmp_path):
    [outcome] = run_jobs([Job("a", die_once, str(tmp_path / "pid"))], executor=executor).values()
    assert (outcome.status, outcome.value) == ("done", (tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(int(outcome.value)))


def test_errors_are_tried_as_often_as_here_and_no_worker_is_lost_by_them(executor, tmp_path, cluster):
    wait_for(lambda: len(cluster.scheduler_info["workers"]) == 2)  # one that was killed comes again
    workers = set(cluster.scheduler_info["workers"])
    jobs = [
        Job("dead", end_itself, None),
        Job("error", count_and_fail, str(tmp_path / "error")),
        Job("hopeless", count_and_fail, str(tmp_path / "hopeless"), hopeless=["DataError"]),
    ]
    outcomes = run_jobs(jobs, executor=executor)
    ends = {key: (outcome.error, outcome.attempts) for key, outcome in outcomes.items()}
    assert ends == {"dead": ("died", 2), "error": ("DataError", 2), "hopeless": ("DataError", 1)}
    assert "SIGKILL" in outcomes["dead"].reason
    assert [(tmp_path / name).read_text() for name in ("error", "hopeless")] == ["xx", "x"]
    assert set(cluster.scheduler_info["workers"]) == workers


def test_an_interruption_stops_all_jobs_and_begins_no_more(executor, tmp_path, monkeypatch):
    names = ["a", "b", "c"]
    found = executor.ended

    def ended(**how):
        if any(tmp_path.glob("*.begun")) and not interrupted:
            interrupted.append(True)
            signal.raise_signal(signal.SIGINT)
        return found(**how)

    interrupted = []
    monkeypatch.setattr(executor, "ended", ended)
    with pytest.raises(Interrupted):
        run_jobs([Job(name, wait_for_word, str(tmp_path / name)) for name in names], executor=executor)
    begun = [name for name in names if (tmp_path / f"{name}.begun").exists()]
    assert begun in (["a"], ["b"], ["a", "b"])  # the second one may still wait for its process
    assert all((tmp_path / name).exists() for name in begun)


DRIVER = """
from distributed import Client
from mamlcli.common.processes.jobs import Job
from mamlcli.common.processes.pool import run_jobs
from mamlcli.studies.where.connection import Connection
from mamlcli.studies.where.dask_executor import DaskExecutor
from tests.helpers.jobs import wait_for_word
executor = DaskExecutor(Connection(Client({address!r}), "a cluster"), num_processes=2, num_threads=1)
run_jobs([Job("a", wait_for_word, {path!r})], executor=executor)
"""


def test_a_job_stops_when_its_driver_is_killed(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))
    path = tmp_path / "a"
    with subprocess.Popen(fresh_python(DRIVER.format(address=cluster.scheduler_address, path=str(path)))) as driver:
        wait_for(path.with_suffix(".begun").exists)
        driver.kill()
    wait_for(path.exists)


def test_a_cluster_that_has_lost_all_its_workers_is_waited_for_a_while(monkeypatch):
    seconds = [1000.0]
    monkeypatch.setattr("mamlcli.studies.where.dask_executor.time.monotonic", lambda: seconds[0])
    monkeypatch.setattr("mamlcli.studies.where.dask_executor.time.sleep", lambda _: None)
    client = SimpleNamespace(status="running", nthreads=dict)
    executor = DaskExecutor(Connection(client, "tcp://127.0.0.1:8786"), num_processes=2, num_threads=1)
    for seconds[0] in (1010.0, 1299.0):
        assert not executor.has_room()
        assert executor.ended(was_interrupted=False) == []
    seconds[0] = 1303.0
    with pytest.raises(MamlError, match=r"workers until the end .*, got none for 5 minutes"):
        executor.ended(was_interrupted=False)


def test_a_scheduler_that_is_gone_ends_the_study_with_what_to_do():
    client = SimpleNamespace(status="closed", nthreads=dict)
    executor = DaskExecutor(Connection(client, "tcp://127.0.0.1:8786"), num_processes=2, num_threads=1)
    with pytest.raises(MamlError, match=r"does not answer any more .*Run the same command again"):
        executor.ended(was_interrupted=False)
