"""One file at a time is open; threads that want its pictures take turns, the nearest first.

A video or a table is read fast from its beginning to its end, and slowly where every picture is searched for.
Threads that decode ahead ask nearly in order; whoever wants what comes next is served first, so that the file
is read once.
"""

import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar

from maskdistill.runtime.seal import stamp


class Reader(Protocol):
    """An open file whose pictures have places in an order."""

    def read(self, place: Any) -> bytes:
        """The picture at a place, as the bytes of a picture file."""

    def close(self) -> None:
        """Close it."""


R = TypeVar("R", bound=Reader)


class Turns(Generic[R]):
    """The reader of the file that was asked for last; a process that is forked begins anew.

    Args:
        opened: opens the file that a key names, of which the first part is its path.
    """

    def __init__(self, opened: Callable[[Any], R]) -> None:
        self._opened = opened
        self._parents: list[object] = []
        self._begin()
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin(self) -> None:
        self._free = threading.Condition()
        self._waiting: list[tuple[Any, Any]] = []
        self._busy = False
        self._last: tuple[Any, Any] | None = None
        self._open: tuple[Hashable, R] | None = None

    def _begin_anew(self) -> None:
        # The parent's reader is kept: closed here, it would wait for threads that a fork does not have.
        self._parents.append(self._open)
        self._begin()

    def read(self, key: tuple[str, ...], place: Any) -> bytes:
        """The picture at a place in a file; raises as the reader does, or OSError if it is gone."""
        wanted = (key, place)
        with self._free:
            self._waiting.append(wanted)
            while self._busy or self._next() != wanted:
                self._free.wait()
            self._waiting.remove(wanted)
            self._busy, self._last = True, wanted
        try:
            return self._reader(key).read(place)
        except BaseException:
            self._close()
            raise
        finally:
            with self._free:
                self._busy = False
                self._free.notify_all()

    def _next(self) -> tuple[Any, Any]:
        """Of what is waited for the first behind what was read last, else the first of all."""
        last = self._last
        return min(self._waiting, key=lambda wanted: (last is not None and wanted < last, wanted))

    def _reader(self, key: tuple[str, ...]) -> R:
        """The open file, opened anew where another is wanted or it was replaced."""
        wanted = (key, stamp(key[0]))
        if self._open is None or self._open[0] != wanted:
            self._close()
            self._open = (wanted, self._opened(key))
        return self._open[1]

    def _close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
