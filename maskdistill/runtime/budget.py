"""Memory that the threads and the loading processes of a job share, so that its request holds whatever the
pictures.
"""

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

DECODING = 1_250_000_000
"""Bytes that the pictures which one process decodes at once may take: the manifest stage asks for 2 GB."""
UNIT = DECODING // 16
UNITS = 32
"""Of :data:`UNIT` bytes, for all loading processes of a job together: stages with some ask for 6 GB and more.
"""


class Budget:
    """Bytes that threads share: who wants more than are left waits until others give theirs back.

    Args:
        total: bytes; who wants more than that works alone.
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
    """The same for processes that this one forks, in units.

    One that is killed with some ends the job anyway.
    """

    def __init__(self, units: int = UNITS) -> None:
        self.units = units
        self._turn: Any = multiprocessing.Lock()
        self._free: Any = multiprocessing.Semaphore(units)

    @contextmanager
    def hold(self, wanted: int) -> Iterator[None]:
        """Hold as many units as ``wanted`` bytes are during the block; those who wait take them one after
        another.
        """
        with ExitStack() as held:
            with self._turn:
                for _ in range(min(self.units, -(-wanted // UNIT))):
                    held.enter_context(self._free)
            yield


_shared: SharedUnits | None = None


def share_among_forks() -> None:
    """Let the processes that this one forks from now on share the memory for decoding; this one has its
    own.
    """
    global _shared
    _shared = SharedUnits()


def shared_with_siblings(wanted: int) -> AbstractContextManager[None]:
    """In such a process: hold its part of what they share; elsewhere nothing happens."""
    if _shared is None or multiprocessing.parent_process() is None:
        return nullcontext()
    return _shared.hold(wanted)
