"""One run at a time in a results folder, and what to do about the lock of a run that was killed.

Snakemake's own lock is a list of files that stays behind when Snakemake is killed, so it does not distinguish
a live run from a dead one. A lock of the kernel beside it does: it is released when the process ends, however
it ends.
"""

import atexit
import errno
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.locks import FileLock

NAME = ".lock"
_ELSEWHERE = "give this one a folder of its own: --config run=NAME"
_held: dict[str, FileLock] = {}


def hold_run(folder: str | Path, remedy: str = _ELSEWHERE) -> None:
    """Keep other runs out of a results folder until :func:`release_run`, or until this process ends.

    Args:
        folder: of results.
        remedy: what a refused user can do other than wait.

    Raises:
        MaskDistillError: another process holds it, which the message names; or the folder cannot be locked.
    """
    lock = FileLock(Path(folder) / NAME)
    try:
        lock.path.parent.mkdir(parents=True, exist_ok=True)
        if not lock.acquire():
            raise MaskDistillError(_refusal(folder, _read(lock.path), remedy))
        if not lock.writable:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        lock.write(
            f"process {os.getpid()} on {socket.gethostname()}, started {time.strftime('%Y-%m-%d %H:%M:%S')}"
        )
    except OSError as error:
        lock.release()
        raise MaskDistillError(
            f"{folder}: results cannot be written there ({error.strerror}); grant access, or {remedy}"
        ) from None
    _held[str(folder)] = lock
    atexit.register(release_run, folder)


def release_run(folder: str | Path) -> None:
    """Let other runs in, and clear the holder's name: only that of a killed process stays in the lock."""
    if lock := _held.pop(str(folder), None):
        with suppress(OSError):  # a full disk
            lock.write("")
        lock.release()


def refuse_while_alive(folder: str | Path) -> None:
    """Refuse to clear Snakemake's lock while a run is at work in a results folder.

    Raises:
        MaskDistillError: one is.
    """
    alive, holder = _holder(Path(folder))
    if alive:
        raise MaskDistillError(f"{_refusal(folder, holder, _ELSEWHERE)}; its lock is not cleared")


def explain_lock(
    folder: str | Path, locks: str | Path, command: str, shared: Sequence[str] = ()
) -> str | None:
    """What a user should know about a run that is in progress, or was killed, before Snakemake checks its
    lock.

    Args:
        folder: results folder of the run; those of other runs lie beside it.
        locks: Snakemake's folder of lock files, ``.snakemake/locks``: each lists the files of one run.
        command: the command that clears Snakemake's lock.
        shared: prefixes of paths that this run needs and that runs share, such as downloads.

    Returns:
        A few sentences, or None if no lock is in the way.
    """
    listed = _listed(Path(locks))
    own = [line for line in listed if line.startswith(f"{folder}/")]
    wanted = [line for line in listed if line.startswith(tuple(shared))]
    alive, holder = _holder(Path(folder))
    if alive and listed:
        return _refusal(folder, holder, _ELSEWHERE)
    if not own and not wanted:
        return None
    found = {place.parent: _holder(place.parent) for place in sorted(Path(folder).parent.glob(f"*/{NAME}"))}
    if at_work := [f"{place} ({name})" for place, (living, name) in found.items() if living]:
        files = (
            f" and holds {', '.join(wanted[:3])} until it ends, which this run wants too" if wanted else ""
        )
        return (
            f"{', '.join(at_work)}: a run is at work in this checkout{files}. Wait until it has ended, or "
            "give this run a checkout of its own; do not use --unlock now. Runs that begin when all "
            "downloads are there (make them first: snakemake resources/...) do not stand in each other's way."
        )
    killed = [
        (place, name) for place, (_, name) in found.items() if name and (wanted or place == Path(folder))
    ]
    if not killed:
        return None
    place, holder = next((item for item in killed if item[0] == Path(folder)), killed[0])
    return (
        f"{place}: a run was killed and left Snakemake's lock behind ({holder}). Make sure that none of its "
        f"jobs is left (here: pgrep -fa maskdistill, on a cluster: squeue --me), clear the lock with\n\n    "
        f"{command}\n\n"
        "and give your command again: it goes on where it was."
    )


def _listed(locks: Path) -> list[str]:
    """The outputs that Snakemake has locked, in order."""
    found: set[str] = set()
    for file in locks.glob("*.output.lock"):
        with suppress(FileNotFoundError):  # the run has just ended
            found.update(file.read_text(errors="replace").splitlines())
    return sorted(found)


def _refusal(folder: str | Path, holder: str, remedy: str) -> str:
    return (
        f"{folder}: another run is at work here ({holder or 'unknown process'}). Wait until it has "
        f"ended, or {remedy}"
    )


def _holder(folder: Path) -> tuple[bool, str]:
    """Whether a living process holds a results folder, and who wrote in its lock; empty after a run that
    ended.
    """
    lock = FileLock(folder / NAME)
    if not os.path.lexists(lock.path):
        return False, ""
    try:
        alive = not lock.acquire()
    except (MaskDistillError, OSError):  # no file, or not one of ours: no known run holds it
        return False, ""
    holder = _read(lock.path)
    lock.release()
    return alive, holder


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""
