"""A bar on a terminal, a plain line every few seconds in a log."""

import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
log = logging.getLogger("maskdistill")
_LEFT = re.compile(r", (\d+) s left$")


def progress(
    items: Iterable[T], total: int, name: str, unit: str = "img", initial: int = 0, every: float = 5.0
) -> Iterator[T]:
    """Yield ``items`` while showing how far it is.

    Args:
        items: what is walked through.
        total: number of items, including ``initial`` ones that were done before.
        name: what is shown in front.
        unit: unit of the rate.
        initial: items already done (a resumed run).
        every: seconds between two log lines when standard error is not a terminal.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=name, unit=unit, initial=initial)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= every:
            last = now
            rate = done / (now - start)
            left = (total - initial - done) / rate
            log.info("%s: %d/%d %s, %.1f %s/s, %.0f s left", name, initial + done, total, unit, rate, unit, left)


def seconds_left(lines: Sequence[str]) -> float | None:
    """What the last line of :func:`progress` in a log says of the time that remains; None without such a line."""
    for line in reversed(lines):
        if found := _LEFT.search(line):
            return float(found[1])
    return None
