"""A Slurm cluster on this machine, for tests: Debian's munged, slurmctld and slurmd on the loopback interface.

Debian's packages are unpacked into a folder (4 MB to download, 14 MB on disk); nothing is installed. The daemons run as
root, on ports and with a key of their own, and end with the `with` block, their jobs too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")

# A folder where these packages are unpacked already, to save the download.
UNPACKED_VARIABLE = "MAMLCLI_TEST_SLURM"

NUM_CPUS = 4

_CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=0,batch_sched_delay=0
EnforcePartLimits=NO
ReturnToService=2
KillWait=10
JobRequeue=1
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={num_cpus} RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
PartitionName=closed Nodes=ALL MaxTime=60 State=DOWN
"""


class SlurmMissing(Exception):
    """Slurm cannot be had here; the text says why."""


@dataclass(frozen=True)
class Slurm:
    """A cluster that runs.

    Attributes:
        environment: what its commands (sbatch, squeue, scancel, scontrol) and mamlcli need to find it.
        folder: of its logs.
    """

    environment: dict[str, str]
    folder: Path

    def __call__(self, *words: object) -> str:
        """Run a command of Slurm and return what it printed."""
        command = [str(word) for word in words]
        return subprocess.run(command, env=self.environment, text=True, capture_output=True, check=True).stdout

    def jobs(self, *states: str) -> list[str]:
        """Return the ids of the jobs that are in one of these states (RUNNING, PENDING, ...), by default in any."""
        lines = [line.split() for line in self("squeue", "--noheader", "--format=%i %T").splitlines()]
        return [job for job, state in lines if not states or state in states]

    def empty(self) -> None:
        """End all jobs at once, and wait for that."""
        with contextlib.suppress(subprocess.CalledProcessError, SlurmMissing):
            self("scancel", "--user=root", "--signal=KILL", "--full")
            self("scancel", "--user=root")
            _wait_until(lambda: not self.jobs(), 30)

    def logs(self) -> str:
        """Return the last lines of the daemons' logs."""
        paths = sorted(self.folder.glob("*.log"))
        return "\n".join("\n".join([path.name, *path.read_text().splitlines()[-20:]]) for path in paths)


def unpacked(folder: Path) -> Path:
    """Return a folder that holds Slurm as Debian's packages have it, below `usr`; where they are installed, the root.

    Raises:
        SlurmMissing: it cannot be had here.
    """
    if os.geteuid() != 0:
        raise SlurmMissing("Slurm's daemons are started as root, and these tests do not run as root")
    if there := os.environ.get(UNPACKED_VARIABLE):
        return Path(there)
    if all(_program(Path("/"), name).exists() for name in ("munged", "slurmctld", "slurmd")):
        return Path("/")
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise SlurmMissing("Slurm is taken from Debian's packages, and there is no apt-get here")
    names = _needed() or (_ran("apt-get", "update") and _needed())
    if not names:
        raise SlurmMissing("apt-get knows no package slurm-wlm")
    archives, root = folder / "archives", folder / "root"
    archives.mkdir()
    if not _ran("apt-get", "download", *names, folder=archives):
        raise SlurmMissing(f"apt-get could not download {' '.join(PACKAGES)}")
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg", "--extract", archive, root], check=True)
    return root


def _program(root: Path, name: str) -> Path:
    """Return the path of a daemon; Debian's names of Slurm's end in -wlm, to tell them from another package."""
    path = root / "usr" / "sbin" / f"{name}-wlm"
    return path if path.exists() else path.with_name(name)


def _needed() -> list[str]:
    """Return the packages that are to be unpacked: those asked for, and what they need and this machine has not."""
    command = ["apt-get", "--simulate", "--no-install-recommends", "install", *PACKAGES]
    simulated = subprocess.run(command, text=True, capture_output=True, check=False)
    return re.findall(r"^Inst (\S+)", simulated.stdout, re.MULTILINE)


def _ran(*command: str, folder: Path | None = None) -> bool:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=180).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextlib.contextmanager
def slurm_in(folder: Path, root: Path) -> Iterator[Slurm]:
    """Start a cluster of one machine in a folder, and stop it and its jobs at the end.

    Args:
        folder: for its key, its socket, its logs and what it spools; the path must be short, as those of sockets are.
        root: as `unpacked` returns it.
    """
    environment = _configured(folder, root)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in _daemons(folder, root):
            with (folder / f"{Path(command[0]).name}.log").open("ab") as log:
                daemons.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        cwd=folder,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        preexec_fn=_end_with_parent,
                    )
                )
            if len(daemons) == 1:
                _wait_until((folder / "munge.socket").exists)
        slurm = Slurm(environment, folder)
        try:
            _wait_until(lambda: "idle" in slurm("sinfo", "--noheader", "--format=%t"))
        except SlurmMissing as error:
            raise SlurmMissing(f"{error}\n{slurm.logs()}") from error
        yield slurm
        slurm.empty()
    finally:
        _end(daemons)


def _configured(folder: Path, root: Path) -> dict[str, str]:
    """Write the key and the configuration; return the environment of the cluster."""
    libraries = next(path for name in ("slurm-wlm", "slurm") for path in root.glob(f"usr/lib/*/{name}"))
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    controller_port, node_port = _free_ports(2)
    (folder / "slurm.conf").write_text(
        _CONFIG.format(
            host=socket.gethostname().partition(".")[0],
            controller_port=controller_port,
            node_port=node_port,
            folder=folder,
            plugins=libraries,
            num_cpus=NUM_CPUS,
        )
    )
    return os.environ | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "LD_LIBRARY_PATH": f"{libraries}:{libraries.parent}",
        "PATH": f"{root}/usr/bin:{os.environ['PATH']}",
    }


def _end_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends, however that ends (prctl, PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _daemons(folder: Path, root: Path) -> list[list[str]]:
    """Return the commands of the daemons, in the order in which they start; each stays in the foreground."""
    munge = {
        name: f"--{name}={folder}/munge.{suffix}"
        for name, suffix in {
            "key-file": "key",
            "socket": "socket",
            "pid-file": "pid",
            "seed-file": "seed",
        }.items()
    }
    return [
        [str(_program(root, "munged")), "--foreground", "--force", "--num-threads=2", *munge.values()],
        [str(_program(root, "slurmctld")), "-D", "-c"],
        [str(_program(root, "slurmd")), "-D", "-c", "-d", str(_program(root, "slurmstepd"))],
    ]


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_until(holds, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.CalledProcessError):
            if holds():
                return
        time.sleep(0.1)
    raise SlurmMissing("Slurm did not start in time")


def _end(daemons: list[subprocess.Popen[bytes]]) -> None:
    for daemon in reversed(daemons):
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
