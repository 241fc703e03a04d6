"""Shared memory, ``/dev/shm``, through which loading processes pass their items; it is small in many
containers.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskdistill.runtime.errors import MaskDistillError

FOLDER = Path("/dev/shm")
SUGGESTED = 2 * 2**30
"""Bytes that a container should have; Docker gives 64 MiB."""
_FULL = {errno.ENOSPC, errno.ENOSYS, errno.ENOENT, errno.EACCES, errno.EROFS, errno.EPERM}
"""Error numbers when there is no room for semaphores, or no such folder."""


def room() -> tuple[int, int] | None:
    """Size and free space of the folder, in bytes; None if the system has no such folder."""
    try:
        found = os.statvfs(FOLDER)
    except OSError:
        return None
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


NO_WORKERS = "set `workers: 0` in the section of this stage"
ONE_THREAD = "give this stage one thread (--set-threads STAGE=1)"


def lack(error: BaseException, instead: str = NO_WORKERS) -> str | None:
    """Message for an error if shared memory, or the means to open it, has run out; None if it has not.

    Args:
        instead: what to do if there cannot be more of it.
    """
    text = str(error)
    if "Too many open files" in text:
        return (
            f"the processes that work for it have too many open files; raise the limit (ulimit -n "
            f"65536), or {instead}"
        )
    named = re.search(r"shared memory|/torch_|Bus error", text) is not None
    if named or (isinstance(error, OSError) and error.errno in _FULL):
        return no_room(instead)
    return None


def no_room(instead: str = NO_WORKERS) -> str:
    """Message when shared memory has run out."""
    found = room()
    size = (
        "there is no such folder"
        if found is None
        else f"{found[0] / 2**20:.0f} MiB, {found[1] / 2**20:.0f} free"
    )
    return (
        f"{FOLDER} has no room ({size}), through which processes hand their work over; give the container "
        f"more (docker run --shm-size=2g), or {instead}"
    )


@contextmanager
def naming_lack(instead: str) -> Iterator[None]:
    """Report a lack of shared memory while processes are set up; arguments as for :func:`lack`.

    Raises:
        MaskDistillError: it has run out.
    """
    try:
        yield
    except OSError as error:
        if said := lack(error, instead):
            raise MaskDistillError(said) from None
        raise


def ended(text: str) -> str | None:
    """Message when a worker process ended on its own; None if the text is about something else."""
    if not re.search(r"DataLoader worker .* (is killed|exited unexpectedly)", text):
        return None
    if "Bus error" in text:
        return no_room()
    return KILLED


KILLED = (
    "a process that worked for it was killed, most often because memory ran out; give the job more memory or "
    "fewer threads and workers, and give the same command again"
)


def end_worker(error: BaseException, item: object) -> None:
    """For a queue's feeding thread: end the process, or a lost item would be waited for for ever."""
    print(lack(error) or f"{type(error).__name__}: {error}", flush=True)
    os._exit(1)
