"""Waiting for other processes as long as they live and compute, and even then not for ever."""

import logging
import multiprocessing
import os
import signal
import time
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from maskdistill.runtime.errors import MaskDistillError

LOOK = 10.0
"""Seconds between two checks."""
IDLE = 600.0
"""Seconds without a result in which working processes must use some processor time."""
AT_WORK = 1.0
"""Least processor time in seconds that counts as work."""
LONGEST = 6 * 3600.0
"""Seconds without a result after which even computing processes are given up."""
REMIND = 60.0

T = TypeVar("T")
log = logging.getLogger("maskdistill")


class Patience:
    """How long to wait for a result of child processes; create it when the waiting begins.

    Args:
        what: name of what is waited for, in the plural.
        remedy: what a user can do if it never comes.
    """

    def __init__(self, what: str, remedy: str) -> None:
        self.what, self.remedy = what, remedy
        self._began = self._active = self._reminded = time.monotonic()
        self._used = _used_by_children()

    def check(self) -> None:
        """Check once more.

        Raises:
            MaskDistillError: no result can be expected any more. The children are killed, as nobody else
                would end them.
        """
        now, used = time.monotonic(), _used_by_children()
        if used - self._used > AT_WORK:
            self._active, self._used = now, used
        if now - self._active > IDLE:
            self._give_up(f"for {now - self._active:.0f} s no process that makes them has computed anything")
        if now - self._began > LONGEST:
            self._give_up(f"none has come for {now - self._began:.0f} s")
        if now - self._reminded > REMIND:
            self._reminded = now
            log.info("waiting for %s since %.0f s", self.what, now - self._began)

    def _give_up(self, reason: str) -> None:
        with suppress(ValueError):  # outside the main thread nobody listens
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch takes it for its own failure
        for child in multiprocessing.active_children():
            child.kill()
        raise MaskDistillError(f"{self.what}: {reason}; {self.remedy}, and give the same command again")


def result_of(future: Future[T], what: str, remedy: str) -> T:
    """The result of work in a child process; arguments as for :class:`Patience`.

    Raises:
        MaskDistillError: none can be expected any more.
    """
    patience = None
    while not future.done():
        wait([future], LOOK)
        patience = patience or Patience(what, remedy)
        if not future.done():
            patience.check()
    return future.result()


def _used_by_children() -> float:
    """Processor seconds that the living children of this process have used; 0 if the system does not tell."""
    used = 0.0
    for child in multiprocessing.active_children():
        with suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used
