"""One run at a time in a results folder, and what to do about the lock of a run that was killed.

Snakemake's own lock is a list of files that stays behind when Snakemake is killed, and it does not tell a run that is
alive from one that is dead. A kernel's lock beside it does: the kernel releases it when the process ends, however it
ends.
"""

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

from maskdistill.runtime.errors import MaskDistillError

NAME = ".lock"
_held: list[IO[str]] = []


def hold_run(folder: str | Path) -> None:
    """Keep every other run out of a results folder until this process ends.

    Raises:
        MaskDistillError: another process holds it; the message names it.
    """
    path = Path(folder) / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = open(path, "a+")  # noqa: SIM115 (it stays open as long as the lock is wanted)
    if not _lock(stream):
        holder = _read(stream)
        stream.close()
        raise MaskDistillError(_refusal(folder, holder))
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {socket.gethostname()}, started {time.strftime('%Y-%m-%d %H:%M:%S')}")
    stream.flush()
    _held.append(stream)


def explain_lock(folder: str | Path, locks: str | Path, command: str) -> str | None:
    """What a user should know about a run that is under way, or was killed, before Snakemake looks at its lock.

    Args:
        folder: results folder of the run.
        locks: Snakemake's folder of lock files, ``.snakemake/locks``.
        command: the command that clears Snakemake's lock.

    Returns:
        A few sentences, or None where there is no lock.
    """
    path = Path(folder) / NAME
    if not path.exists() or not any(Path(locks).glob("*.lock")):
        return None
    with open(path, "a+") as stream:
        alive, holder = not _lock(stream), _read(stream)
    if alive:
        return _refusal(folder, holder)
    return (
        f"{folder}: a run was killed and left Snakemake's lock behind ({holder}). Make sure that none of its jobs is"
        f" left (here: pgrep -fa maskdistill, on a cluster: squeue --me), clear the lock with\n\n    {command}\n\n"
        "and give your command again: it goes on where it was."
    )


def _refusal(folder: str | Path, holder: str) -> str:
    return (
        f"{folder}: another run is at work here ({holder}). Wait until it has ended, or give this one a folder of its"
        " own: --config run=NAME"
    )


def _lock(stream: IO[str]) -> bool:
    """Try to take the lock; where the file system knows none, Snakemake's lock has to do."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _read(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read() or "unknown process"
