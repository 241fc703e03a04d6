"""Ctrl-C and SIGTERM end a command cleanly: its processes end, nothing half-written remains, one line says
so.
"""

import multiprocessing
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """The signal that a command received while it ran.

    Attributes:
        signal: its number; None if there was none.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def number(self, error: BaseException) -> int:
        """The signal behind an exception, 0 if there is none; shells add 128 for the exit status.

        Libraries raise their own exceptions when one of their worker processes is ended, and torch's launcher
        of several processes has its own signal handler, whose exception has ``sigval``.
        """
        other: int | None = getattr(error, "sigval", None)
        return int(self.signal or other or signal.SIGINT * isinstance(error, KeyboardInterrupt))

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt at the first signal; at the second the system ends the process."""
        self.signal = signal.Signals(number)
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        for child in multiprocessing.active_children():
            child.terminate()
        raise KeyboardInterrupt


@contextmanager
def in_order() -> Iterator[Interruption]:
    """Turn SIGINT and SIGTERM into KeyboardInterrupt, so that cleanup code runs.

    A signal that is ignored, as under ``nohup``, stays ignored. Processes forked meanwhile ignore Ctrl-C,
    which a terminal sends to all, and end on SIGTERM as usual.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {one: signal.getsignal(one) for one in SIGNALS}
    usual = (signal.default_int_handler, signal.SIG_DFL)
    for one in (one for one in SIGNALS if before[one] in usual):
        signal.signal(one, interruption)
    try:
        yield interruption
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _in_child() -> None:
    if isinstance(signal.getsignal(signal.SIGTERM), Interruption):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if isinstance(signal.getsignal(signal.SIGINT), Interruption):
        signal.signal(signal.SIGINT, signal.SIG_IGN)


os.register_at_fork(after_in_child=_in_child)


def reader_has_left() -> bool:
    """Whether standard output is a pipe without a reader, as after ``| head``."""
    with suppress(OSError, ValueError):
        waiting = select.poll()
        waiting.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in waiting.poll(0))
    return False


def mute_output() -> None:
    """Discard further output to standard output, including what is flushed when the interpreter ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
