"""A bar on a terminal, a plain line every few seconds in a log."""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from maskdistill.runtime.job_record import add_work

T = TypeVar("T")
log = logging.getLogger("maskdistill")
_LEFT = re.compile(r", (\d+) s left$")


def progress(
    items: Iterable[T],
    total: int,
    name: str,
    unit: str = "img",
    initial: int = 0,
    every: float = 5.0,
    note: Callable[[], str] = str,
) -> Iterator[T]:
    """Yield ``items`` while showing progress; their number goes into the job's record.

    Args:
        items: what to iterate over.
        total: number of items, including ``initial`` ones.
        name: what is shown in front.
        unit: unit of the rate.
        initial: items already done (a resumed run).
        every: seconds between two log lines when standard error is not a terminal.
        note: gives further text to show, e.g. losses.
    """
    start, done = time.monotonic(), 0
    shown = _bar if sys.stderr.isatty() else _logged
    try:
        for item in shown(items, total, name, unit, initial, every, note):
            yield item
            done += 1
    finally:
        add_work(unit, done, time.monotonic() - start)


def _bar(
    items: Iterable[T], total: int, name: str, unit: str, initial: int, _: float, note: Callable[[], str]
) -> Iterator[T]:
    with tqdm(items, total=total, desc=name, unit=unit, initial=initial) as bar:
        for item in bar:
            yield item
            bar.set_postfix_str(note(), refresh=False)


def _logged(
    items: Iterable[T], total: int, name: str, unit: str, initial: int, every: float, note: Callable[[], str]
) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= every:
            last = now
            rate = done / (now - start)
            left = (total - initial - done) / rate
            said = f", {more}" if (more := note()) else ""
            log.info(
                "%s: %d/%d %s, %.1f %s/s%s, %.0f s left",
                name,
                initial + done,
                total,
                unit,
                rate,
                unit,
                said,
                left,
            )


def seconds_left(lines: Sequence[str]) -> float | None:
    """The remaining time by the last line of :func:`progress` in a log; None without such a line."""
    for line in reversed(lines):
        if found := _LEFT.search(line):
            return float(found[1])
    return None
