"""Bytes on their way from a server into a file: where a transfer goes on, and when it is too slow."""

import time
from collections.abc import Callable, Iterator
from typing import IO


class Pace:
    """Gives up a transfer of which too little comes.

    Args:
        seconds: in which enough has to come, again and again.
        least: bytes that are enough.
    """

    def __init__(self, seconds: float, least: float) -> None:
        self.seconds, self.least = seconds, least
        self._began, self._came = time.monotonic(), 0

    def add(self, size: int) -> None:
        """Count bytes that came.

        Raises:
            TimeoutError: there were too few.
        """
        self._came += size
        passed = time.monotonic() - self._began
        if passed > self.seconds:
            if self._came < self.least:
                raise TimeoutError(f"{self._came} bytes in {passed:.0f} s")
            self._began, self._came = time.monotonic(), 0


def received(read: Callable[[], bytes], stream: IO[bytes], pace: Pace) -> Iterator[bytes]:
    """Write what ``read`` returns until it is empty, and hand each piece on once it is written.

    Raises:
        TimeoutError: too little came. All that was handed on is in the stream.
    """
    while data := read():
        stream.write(data)
        yield data
        pace.add(len(data))


def goes_on_at(content_range: str, held: int) -> bool:
    """Whether an answer with this ``Content-Range`` begins behind the first ``held`` bytes."""
    return content_range.startswith(f"bytes {held}-")
