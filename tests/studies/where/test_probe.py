"""The probe of a cluster: what workers say of themselves is compared with what is here. No cluster is needed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("distributed")
from mamlcli.common.errors import MamlError
from mamlcli.studies.where.connection import Connection
from mamlcli.studies.where.probe import probe, words_of

HERE = ".".join(map(str, sys.version_info[:3])) + ".final.0"


class Cluster:
    """Stands in the place of a Dask client: its workers say what this process says, with some changes."""

    def __init__(self, *workers, python=HERE):
        self.workers, self.python = {f"tcp://{i}": worker for i, worker in enumerate(workers)}, python

    def wait_for_workers(self, number, timeout=None):
        if len(self.workers) < number:
            raise TimeoutError("no worker")

    def get_versions(self, check):
        part = {"host": {"python": self.python}}
        return {"scheduler": part, "workers": dict.fromkeys(self.workers, part)}

    def run(self, function, *words):
        seen = {}
        for address, changes in self.workers.items():
            if isinstance(changes, Exception):
                raise changes
            says = function(*words)
            seen[address] = says | changes | {"versions": says["versions"] | changes.get("versions", {})}
        return seen

    def nthreads(self):
        return dict.fromkeys(self.workers, 2)


def probed(tmp_path, *workers, **how):
    return probe(Connection(Cluster(*workers, **how), "a cluster", timeout_s=0.1), tmp_path / "runs" / "study")


def test_workers_like_this_process_are_counted_and_share_the_cores_of_their_host(tmp_path):
    node = {"host": "node1", "cores": 12, "gpus": ""}
    found = probed(tmp_path, node, node, {"host": "node2", "cores": 32, "gpus": "0"})
    assert (found.num_workers, found.num_slots, found.num_threads) == (3, 6, 3)
    assert words_of(found) == "3 workers on node1, node2 GPU 0; 6 at a time"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("workers", "how", "said"),
    [
        ((), {}, r"expected a worker within 0.1 s, got none"),
        (({},), {"python": "3.7.1.final.0"}, r"expected Python 3.\d+, as here, got Python 3.7"),
        (({}, {"host": "n2", "versions": {"torch": "2.0"}}), {}, r"torch \S+, as here, got torch 2.0 on n2"),
        (({"host": "n2", "versions": {"mamlcli": "0.1"}},), {}, r"mamlcli \S+, as here, got mamlcli 0.1 on n2"),
        (({"host": "n2", "token": ""},), {}, r"expected workers that see \S+, got one on n2 .*another file system"),
        (
            (ModuleNotFoundError("No module named 'mamlcli'"),),
            {},
            r"got .*No module named 'mamlcli'.*Start the workers",
        ),
    ],
)
def test_a_worker_on_which_a_study_could_not_run_is_told(tmp_path, workers, how, said):
    with pytest.raises(MamlError, match=f"--on a cluster: .*{said}"):
        probed(tmp_path, *workers, **how)


def test_what_no_worker_comes_for_is_said_in_the_words_of_the_batch_system(tmp_path):
    connection = Connection(Cluster(), "slurm", pending=lambda: "job 7 waits: Priority", timeout_s=0.1)
    with pytest.raises(MamlError, match="got none: job 7 waits: Priority"):
        probe(connection, tmp_path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(MamlError, match="expected a folder that can be written"):
        probed(tmp_path, {})


def test_the_function_that_looks_is_sent_as_it_is(tmp_path):
    sent = []
    client = SimpleNamespace(**{name: getattr(Cluster({}), name) for name in ("wait_for_workers", "get_versions")})
    client.run = lambda function, *words: sent.append(function) or {}
    client.nthreads = dict
    with pytest.raises(ValueError, match="empty"):  # no worker is left
        probe(Connection(client, "a cluster"), tmp_path)
    assert "<locals>" in sent[0].__qualname__  # a name that cannot be imported: cloudpickle sends the code
