"""Transfers from a server into a file: where to continue, and when one is too slow."""

import time
from collections.abc import Callable, Iterator
from typing import IO


class Pace:
    """Gives up a transfer that is too slow.

    Args:
        seconds: period in which enough bytes must arrive, repeatedly.
        least: number of bytes that is enough.
    """

    def __init__(self, seconds: float, least: float) -> None:
        self.seconds, self.least = seconds, least
        self._began, self._came = time.monotonic(), 0

    def add(self, size: int) -> None:
        """Count received bytes.

        Raises:
            TimeoutError: too few arrived.
        """
        self._came += size
        passed = time.monotonic() - self._began
        if passed > self.seconds:
            if self._came < self.least:
                raise TimeoutError(f"{self._came} bytes in {passed:.0f} s")
            self._began, self._came = time.monotonic(), 0


def received(read: Callable[[], bytes], stream: IO[bytes], pace: Pace) -> Iterator[bytes]:
    """Write what ``read`` returns until it is empty, and pass each piece on once it is written.

    Raises:
        TimeoutError: too few bytes arrived. All that was passed on is in the stream.
    """
    while data := read():
        stream.write(data)
        yield data
        pace.add(len(data))


def goes_on_at(content_range: str, held: int) -> bool:
    """Whether a response with this ``Content-Range`` begins after the first ``held`` bytes."""
    return content_range.startswith(f"bytes {held}-")
