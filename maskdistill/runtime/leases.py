"""Each GPU belongs to one process at a time, whoever started it.

A scheduler that counts GPUs (``snakemake --resources gpu=4``) does not say which ones a job may take. So an
entry point takes a file lock on every physical GPU it uses, in a folder of the machine; the kernel releases
the lock when the process ends, however it ends.
"""

import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.locks import FileLock, UnfitLockError

FOLDER = "MASKDISTILL_LEASES"
"""Environment variable: folder of the lock files on this machine, shared by all who use its GPUs."""
HELD = "MASKDISTILL_LEASED"
"""Environment variable: GPUs that this process or its parent holds, in the form of CUDA_VISIBLE_DEVICES."""
WAIT = "MASKDISTILL_LEASE_WAIT"
"""Environment variable: seconds for which a job waits for GPUs before it gives up."""
PATIENCE = 7 * 86400.0
NAMES = 8
"""Alternative names of a lock, tried if something else has the first."""
POLL = 0.05
REMIND = 30.0

log = logging.getLogger("maskdistill")
_leases: list[FileLock] = []


def visible_gpus() -> list[str]:
    """UUIDs of the GPUs that this process may see, without touching CUDA; empty without an NVIDIA driver.

    Numbers in CUDA_VISIBLE_DEVICES follow the order of the PCI bus, as in ``nvidia-smi``; UUIDs, including
    those of MIG instances, are taken as they are.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None and not given.strip():
        return []
    try:
        query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return select(done.stdout.split(), given)


def select(uuids: Sequence[str], given: str | None) -> list[str]:
    """The GPUs of a machine that a value of CUDA_VISIBLE_DEVICES names; all if there is no value.

    As in CUDA, the list ends at the first number that no GPU has, and a UUID may be abbreviated.
    """
    if given is None:
        return list(uuids)
    chosen: list[str] = []
    for token in (part.strip() for part in given.split(",")):
        if token.isdecimal() and int(token) < len(uuids):
            chosen.append(uuids[int(token)])
        elif token.startswith("GPU-"):
            chosen += [uuid for uuid in uuids if uuid.startswith(token)][:1]
        elif token.startswith("MIG-"):
            chosen.append(token)
        else:
            break
    return chosen


def lease_folder() -> Path:
    """Folder of the lock files, made for all users of the machine."""
    folder = Path(os.environ.get(FOLDER) or Path(tempfile.gettempdir()) / "maskdistill-gpus").expanduser()
    remedy = f"set {FOLDER} to a folder of this machine that all who use its GPUs can write to"
    if folder.is_symlink():
        raise MaskDistillError(f"{folder}: is a link, which may lead elsewhere tomorrow; {remedy}")
    try:
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
    except FileExistsError:
        pass
    except OSError as error:
        raise MaskDistillError(f"{folder}: cannot be made ({error.strerror}); {remedy}") from None
    for _ in range(20):  # another user may have just made it and not yet opened it to all
        if os.access(folder, os.W_OK | os.X_OK):
            break
        time.sleep(POLL)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise MaskDistillError(f"{folder}: not a folder that this user may write lock files to; {remedy}")
    return folder


def lease(
    uuids: Sequence[str], count: int, folder: Path, remind: float = REMIND, patience: float | None = None
) -> list[tuple[str, FileLock]]:
    """Wait until ``count`` GPUs are free and take them.

    Jobs queue at a gate and pass it only with all the GPUs they asked for, so two jobs never wait for each
    other's GPUs, and a job that wants many is not overtaken by small ones for ever.

    Args:
        uuids: GPUs to choose from; the first free ones are taken.
        count: how many; at most as many as there are.
        folder: of the lock files.
        remind: seconds between two lines in the log while waiting.
        patience: seconds after which waiting ends.

    Returns:
        UUID and lock of each GPU; a lock is held until it is released or the process ends.

    Raises:
        MaskDistillError: more are wanted than there are, they did not become free in time, or a lock file
            cannot be used.
    """
    patience = _patience() if patience is None else patience
    if count > len(uuids):
        raise MaskDistillError(f"{count} GPUs are requested, but only {len(uuids)} are visible; lower --gpus")
    gate = _Lock(folder, "gate")
    locks = {uuid: _Lock(folder, uuid) for uuid in uuids}
    began, reminded = time.monotonic(), time.monotonic()
    taken: list[tuple[str, FileLock]] = []
    try:
        while len(taken) < count:
            if gate.acquire():
                for uuid, own in locks.items():
                    if len(taken) < count and uuid not in dict(taken) and own.acquire():
                        taken.append((uuid, own.file))
            if len(taken) < count:
                now = time.monotonic()
                if now - began > patience:
                    raise MaskDistillError(
                        f"{count} of {len(uuids)} GPUs did not become free in {patience:.0f} s: other "
                        f"processes hold their locks in {folder} (fuser {folder}/*.lock names them); wait "
                        f"for those, or set {WAIT}"
                    )
                if now - reminded > remind:
                    reminded = now
                    log.info("waiting for %d of %d GPUs since %.0f s", count, len(uuids), now - began)
                time.sleep(POLL)
    except BaseException:
        for _, lock in taken:
            lock.release()
        raise
    finally:
        gate.release()
    return sorted(taken, key=lambda held: uuids.index(held[0]))


class _Lock:
    """The lock of one thing in the folder; if its name is taken by something that is not a file, under
    another name, the same for all users.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.file = self._numbered(0)
        self._number = 0

    def acquire(self) -> bool:
        """Try to take the lock, as :meth:`FileLock.acquire` does."""
        try:
            return self.file.acquire()
        except UnfitLockError as error:
            if self._number == NAMES:
                raise MaskDistillError(f"{error}, or set {FOLDER} to another folder") from None
            self._number += 1
            self.file = self._numbered(self._number)
            log.warning("%s; %s is taken instead", error, self.file.path)
            return self.acquire()
        except OSError as error:
            raise MaskDistillError(
                f"{self.file.path}: cannot be locked ({error.strerror}); set {FOLDER} to another folder"
            ) from None
        except MaskDistillError as error:
            raise MaskDistillError(
                f"{error}: let its owner grant everybody access, or set {FOLDER} to another folder for all"
            ) from None

    def release(self) -> None:
        """Let others have it."""
        self.file.release()

    def _numbered(self, number: int) -> FileLock:
        return FileLock(
            self.folder / (f"{self.name}.{number}.lock" if number else f"{self.name}.lock"), 0o666
        )


def _patience() -> float:
    given = os.environ.get(WAIT, "")
    try:
        return float(given) if given else PATIENCE
    except ValueError:
        raise MaskDistillError(f"{WAIT}={given!r}: give seconds") from None


def claim_gpus(device: str, gpus: int) -> None:
    """Take the GPUs granted to this process, once and until it ends, and hide all others from CUDA.

    Call it before CUDA is touched. Child processes share their parent's GPUs. Without a visible GPU, or on
    the CPU, nothing happens.

    Args:
        device: ``auto``, ``cpu`` or ``cuda[:N]``; a number selects one visible GPU, which is still called
            ``cuda:N`` afterwards.
        gpus: number granted. Under ``auto`` 0 means CPU, and at most the visible ones are taken.
    """
    if device == "cpu" or (device == "auto" and gpus == 0) or HELD in os.environ:
        return
    visible = visible_gpus()
    number = device.partition(":")[2]
    if number and int(number) < len(visible):
        wanted, count = [visible[int(number)]], 1
    else:
        wanted, count = visible, min(max(gpus, 1), len(visible))
    if count == 0:
        return
    held = lease(wanted, count, lease_folder())
    _leases.extend(lock for _, lock in held)
    os.environ[HELD] = ",".join(uuid for uuid, _ in held)
    if not number:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ[HELD]
