"""The place of a process among the workers of a run, as its environment gives it."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.common.processes.launch import RENDEZVOUS
from mamlcli.common.processes.place import Place, half_set, place_in

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
ADDRESS = "localhost:29500"

# As srun sets them for task 3 of 4 on two machines.
SRUN = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
# As a batch script has them, which is one process whatever it asks for.
SBATCH = {"SLURM_JOB_ID": "123456", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


def test_process_without_torchruns_variables_is_alone():
    assert place_in({}) is None
    assert place_in({"RANK": ""}) is None


@pytest.mark.parametrize(
    "environment",
    [
        {"MASTER_ADDR": "10.0.0.1"},
        {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"},
        {"LOCAL_RANK": "0"},
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"},
    ],
    ids=" ".join,
)
def test_variables_that_name_no_worker_are_nothing(environment):
    assert place_in(environment) is None


@pytest.mark.parametrize("names", [["MASTER_ADDR"], ["MASTER_PORT"], ["MASTER_ADDR", "MASTER_PORT"]], ids=" ".join)
def test_an_address_without_a_worker_is_named(names):
    said = half_set({name: TORCHRUN[name] for name in names})
    assert said.startswith(f"{' and '.join(names)} without RANK and WORLD_SIZE: this process is a run of its own")


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({"MASTER_ADDR": ""}, None),
        ({"MASTER_ADDR": "10.0.0.1"}, "1"),
        ({"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "WORLD_SIZE": "1"}, None),
    ],
)
def test_nothing_is_said_of_an_address_where_one_worker_is_meant(environment, asked):
    assert place_in(environment, asked) is None
    assert half_set(environment, asked) is None


def test_launcher_of_one_process_on_each_machine_needs_no_local_rank():
    kubeflow = {name: value for name, value in TORCHRUN.items() if name != "LOCAL_RANK"}
    assert place_in(kubeflow) == Place(1, 4, 0, 1, address=ADDRESS)


def test_place_is_read_from_torchruns_variables():
    assert place_in(TORCHRUN) == Place(1, 4, 1, 2, address=ADDRESS)
    assert place_in(TORCHRUN | {"LOCAL_WORLD_SIZE": "4"}) == Place(1, 4, 1, 4, address=ADDRESS)
    assert place_in(TORCHRUN | {"MASTER_ADDR": "::1"}) == Place(1, 4, 1, 2, address="[::1]:29500")


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_torchruns_variables_half_set_are_refused(name):
    with pytest.raises(MamlError, match=f"without {name}. Start with torchrun --no-python mamlcli train"):
        place_in({key: value for key, value in TORCHRUN.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANK", "4"),
        ("RANK", "-1"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "two"),
        ("WORLD_SIZE", "9" * 5000),
        ("LOCAL_RANK", "2"),
        ("MASTER_PORT", "70000"),
    ],
)
def test_variable_that_makes_no_sense_is_named(name, value):
    with pytest.raises(MamlError, match=f"environment: {name}: expected an integer"):
        place_in(TORCHRUN | {name: value})


# Slurm --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["auto", "4"])
def test_tasks_of_srun_share_a_run_where_they_are_asked_to(asked):
    assert place_in(SRUN, asked) == Place(3, 4, 1, 2, address="gpu03:18456")
    address = {"MASTER_ADDR": "head", "MASTER_PORT": "29500"}
    assert place_in(SRUN | address, asked) == Place(3, 4, 1, 2, address="head:29500")


def test_tasks_of_srun_are_alone_where_they_are_asked_to():
    assert place_in(SRUN, "1") is None


@pytest.mark.parametrize(("asked", "got"), [(None, "nothing"), ("2", "'2'")])
def test_tasks_of_srun_that_could_be_meant_in_two_ways_are_refused(asked, got):
    with pytest.raises(MamlError) as caught:
        place_in(SRUN, asked)
    words = f"--workers: expected 4, to share one run among the tasks of srun, or 1, for a run in each, got {got}."
    assert str(caught.value).startswith(words)
    assert "This is task 3 of 4 (SLURM_PROCID, SLURM_STEP_NUM_TASKS)" in str(caught.value)


@pytest.mark.parametrize("environment", [SBATCH, SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}])
def test_batch_script_and_single_task_of_slurm_are_alone(environment):
    assert place_in(environment) is None


def test_torchrun_within_slurm_comes_first():
    assert place_in(SRUN | TORCHRUN) == Place(1, 4, 1, 2, address=ADDRESS)


@pytest.mark.parametrize(
    ("names", "first"), [("cpu1,cpu2", "cpu1"), ("n[7,9-12]-ib", "n7-ib"), ("a.b.org", "a.b.org"), ("x[001],y", "x001")]
)
def test_first_machine_of_a_list_is_where_tasks_of_srun_meet(names, first):
    place = place_in(SRUN | {"SLURM_STEP_NODELIST": names}, "auto")
    assert place.address == f"{first}:18456"


def test_list_without_a_machine_is_named():
    with pytest.raises(MamlError, match="Set MASTER_ADDR"):
        place_in(SRUN | {"SLURM_STEP_NODELIST": ""}, "auto")


def test_place_of_workers_started_here_has_their_meeting_point():
    environment = {RENDEZVOUS: "/tmp/there", "RANK": "2", "WORLD_SIZE": "3"}
    assert place_in(environment) == Place(2, 3, 2, 3, "/tmp/there")
