"""The scripts of jobs, and the words about those that ended too soon; with a Slurm: tests/extras/test_slurm.py."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest

pytest.importorskip("dask_jobqueue", reason="the package dask-jobqueue is not installed (extra cluster)")

from mamlcli.studies.where.profiles import Profile
from mamlcli.studies.where.slurm_cluster import WorkerJob, job_keywords, keys_in, last_words, remove_keys


def script_of(profile: Profile, folder) -> str:
    return WorkerJob("tls://10.0.0.1:5000", name="w-1", **job_keywords(profile, "mamlcli-1", folder)).job_script()


def test_a_script_asks_for_what_the_profile_says_and_is_told_before_its_end(tmp_path):
    folder = tmp_path / "100% mine"
    profile = Profile(
        partition="gpu",
        account="group",
        qos="long",
        time="2-00:00:00",
        cpus=4,
        memory="16G",
        gres="gpu:1",
        options=["--constraint=a100"],
        prologue=["module load cuda", "source env/bin/activate"],
        python="/opt/my python/bin/python",
    )
    script = script_of(profile, folder)
    asked = {line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert asked == {
        "-J mamlcli-1",
        "-n 1",
        "--cpus-per-task=4",
        "--mem=16G",
        "-t 2-00:00:00",
        f'--output="{tmp_path}/100%% mine/job-%j.log"',
        "--signal=B:TERM@120",
        "--partition=gpu",
        "--account=group",
        "--qos=long",
        "--gres=gpu:1",
        "--constraint=a100",
    }
    *_, load, activate, command = script.strip().splitlines()
    assert (load, activate) == ("module load cuda", "source env/bin/activate")
    assert command.startswith("exec '/opt/my python/bin/python' -m distributed.cli.dask_worker tls://10.0.0.1:5000 ")
    assert "--nthreads 1 " in command
    assert "--no-nanny" in command


def test_a_script_is_bash_and_names_no_partition_that_was_not_asked_for(tmp_path):
    script = script_of(Profile(), tmp_path)
    assert "--partition" not in script
    assert " -p " not in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_settings_of_dask_add_nothing_to_a_script(tmp_path):
    import dask

    mine = {"jobqueue.slurm.queue": "mine", "jobqueue.slurm.job-extra-directives": ["--mine"]}
    expected = script_of(Profile(), tmp_path)
    with dask.config.set(mine):
        assert script_of(Profile(), tmp_path) == expected


def test_the_keys_of_a_connection_are_their_owners_alone_and_go(tmp_path):
    pytest.importorskip("cryptography", reason="the package cryptography is not installed (extra cluster)")
    security = keys_in(tmp_path)
    assert security.require_encryption
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    remove_keys(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_last_words_of_a_job_are_those_that_tell_of_an_error(tmp_path):
    log = tmp_path / "job-1.log"
    assert last_words(log) == "no output (No such file or directory)"
    log.write_text("line 3: module: command not found\nthe end\n\n")
    assert last_words(log) == "'line 3: module: command not found'"


def test_importing_the_package_leaves_ctrl_c_to_whoever_handles_it():
    code = "import signal; import mamlcli.studies.where.slurm_cluster; signal.raise_signal(signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "KeyboardInterrupt" in done.stderr, done.stderr
