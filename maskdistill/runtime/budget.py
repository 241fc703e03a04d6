"""Memory that a job's threads and loading processes share, so that the job stays within its memory request
for any pictures.
"""

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

DECODING = 1_250_000_000
"""Bytes for all pictures that one process decodes at the same time: the manifest stage requests 2 GB."""
UNIT = DECODING // 16
UNITS = 32
"""Units of :data:`UNIT` bytes for all loading processes of a job together: stages with such processes request
6 GB or more.
"""


class Budget:
    """Bytes that threads share: a thread that wants more than are left waits until others return theirs.

    Args:
        total: bytes; a thread that wants more works alone.
    """

    def __init__(self, total: int) -> None:
        self.total, self.used = total, 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, wanted: int) -> Iterator[None]:
        """Hold ``wanted`` bytes during the block."""
        wanted = min(wanted, self.total)
        with self._changed:
            self._changed.wait_for(lambda: self.used + wanted <= self.total)
            self.used += wanted
        try:
            yield
        finally:
            with self._changed:
                self.used -= wanted
                self._changed.notify_all()


class SharedUnits:
    """The same for forked processes, in units.

    If a process is killed while holding units, the job ends anyway.
    """

    def __init__(self, units: int = UNITS) -> None:
        self.units = units
        self._turn: Any = multiprocessing.Lock()
        self._free: Any = multiprocessing.Semaphore(units)

    @contextmanager
    def hold(self, wanted: int) -> Iterator[None]:
        """Hold as many units as ``wanted`` bytes need during the block; waiting processes take theirs one
        after another.
        """
        with ExitStack() as held:
            with self._turn:
                for _ in range(min(self.units, -(-wanted // UNIT))):
                    held.enter_context(self._free)
            yield


_shared: SharedUnits | None = None


def share_among_forks() -> None:
    """Let processes forked from now on share memory for decoding; this process has its own."""
    global _shared
    _shared = SharedUnits()


def shared_with_siblings(wanted: int) -> AbstractContextManager[None]:
    """In such a process, hold a part of the shared memory; elsewhere nothing happens."""
    if _shared is None or multiprocessing.parent_process() is None:
        return nullcontext()
    return _shared.hold(wanted)
