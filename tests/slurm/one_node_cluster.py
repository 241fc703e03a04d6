"""A Slurm cluster of one node on this machine, with made-up GPUs: Debian's packages, no systemd, no
accounting.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

PROGRAMS = ("slurmctld", "slurmd", "munged", "mungekey", "sbatch", "setpriv")
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "util-linux")
SETTINGS = Path("/etc/slurm")  # Slurm's jobs look nowhere else, whatever SLURM_CONF says
MARK = "# Written by tests/slurm of maskdistill; nothing is lost when it is deleted"
NVIDIA = 195  # major number of NVIDIA's device files
LOCK = Path(tempfile.gettempdir()) / "maskdistill-test-cluster.lock"
GPUS = 4

SLURM_CONF = """\
{mark}
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/node
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={controller_port}
SlurmdPort={node_port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
MinJobAge=3600
KillWait=2
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=200000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class NoClusterError(Exception):
    """Slurm can be neither found nor installed here, or is in use; the message says which."""


def install() -> None:
    """Install Slurm and munge where they are missing.

    Raises:
        NoClusterError: this takes root and apt-get, or apt-get failed.
    """
    if os.geteuid() != 0:
        raise NoClusterError("a Slurm cluster of one's own needs root")
    if not all(map(shutil.which, PROGRAMS)):
        if not shutil.which("apt-get"):
            raise NoClusterError(
                f"{', '.join(PROGRAMS)} are not installed, and there is no apt-get to install them"
            )
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            done = subprocess.run(
                ["apt-get", "--quiet=2", *command],
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
            )
            if done.returncode:
                raise NoClusterError(f"apt-get {command[0]} failed: {done.stderr[-500:]}")


def free_ports(count: int) -> list[int]:
    """TCP ports that nothing on this machine listens to."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def write_settings(folder: Path) -> None:
    """Slurm's own two files, and one character device a GPU: without one Slurm sets no
    CUDA_VISIBLE_DEVICES.
    """
    for gpu in range(GPUS):
        os.mknod(folder / f"nvidia{gpu}", 0o600 | 0o020000, os.makedev(NVIDIA, gpu))
    host = socket.gethostname().split(".")[0]
    controller_port, node_port = free_ports(2)
    SETTINGS.mkdir(exist_ok=True)
    text = SLURM_CONF.format(
        mark=MARK, host=host, folder=folder, gpus=GPUS, controller_port=controller_port, node_port=node_port
    )
    (SETTINGS / "slurm.conf").write_text(text)
    (SETTINGS / "gres.conf").write_text(
        f"AutoDetect=off\nNodeName={host} Name=gpu File={folder}/nvidia[0-{GPUS - 1}]\n"
    )


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)


def slurm(*command: str) -> str:
    """What one of Slurm's commands prints."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@contextmanager
def one_node_cluster(folder: Path) -> Iterator[None]:
    """Start munged, slurmctld and slurmd; on the way out, however it is left, end every job and daemon.

    The daemons end with this process, also when it is killed; the two settings files that it then leaves are
    replaced the next time.

    Args:
        folder: empty, for keys, sockets, logs and state.

    Raises:
        NoClusterError: Slurm cannot be had here, or this machine belongs to a cluster already.
    """
    try:
        with FileLock(LOCK, timeout=600):
            install()
            settings = SETTINGS / "slurm.conf"
            if settings.exists() and not settings.read_text().startswith(MARK):
                raise NoClusterError(f"{settings} is there: this machine belongs to a cluster")
            with running_daemons(folder):
                yield
    except Timeout:
        raise NoClusterError(
            f"another process has had a test cluster on this machine for long ({LOCK})"
        ) from None


@contextmanager
def running_daemons(folder: Path) -> Iterator[None]:
    """The cluster itself, see :func:`one_node_cluster`."""
    folder.chmod(0o755)
    daemons: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        bound = ["setpriv", "--pdeathsig", "KILL", *command]
        with open(folder / f"{command[0]}.out", "wb") as output:
            daemons.append(subprocess.Popen(bound, stdout=output, stderr=output, start_new_session=True))

    try:
        write_settings(folder)
        subprocess.run(["mungekey", "--create", "--keyfile", str(folder / "munge.key")], check=True)
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid",
        "log-file": "munge.log",
                 "seed-file": "munge.seed"}  # fmt: skip
        start(
            "munged",
            "--foreground",
            "--force",
            *(f"--{name}={folder / file}" for name, file in files.items()),
        )
        wait_until((folder / "munge.socket").exists, "munged")
        (folder / "controller").mkdir()
        start("slurmctld", "-D")
        start("slurmd", "-D")
        wait_until(node_is_idle, "the node", 90)
        yield
    finally:
        stop(daemons)


def node_is_idle() -> bool:
    """Whether the cluster answers and its node takes jobs."""
    done = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, timeout=60)
    return done.stdout.strip() == "idle"


def stop(daemons: list[subprocess.Popen[bytes]]) -> None:
    """Cancel what still runs, end the daemons in the opposite order, and take the settings away."""
    with suppress(subprocess.SubprocessError, OSError, TimeoutError):
        slurm("scancel", "--user=root")
        wait_until(lambda: not slurm("squeue", "--noheader").strip(), "cancelled jobs to end", 30)
    for daemon in reversed(daemons):
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    for name in ("slurm.conf", "gres.conf"):
        (SETTINGS / name).unlink(missing_ok=True)
