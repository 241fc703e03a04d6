"""Work in threads with bounded queues, in order: one thread that writes behind, several that work ahead."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def in_background(work: Callable[[T], None], waiting: int = 4) -> Iterator[Callable[[T], None]]:
    """Yield a function that hands an item to ``work`` in a thread; items are worked on one by one, in order.

    Handing over blocks while ``waiting`` items are unfinished. The first exception of ``work`` is raised by
    the next hand-over or at the end of the block, and nothing is worked on after it. The block ends when all is done.

    Args:
        work: called in the background with each item.
        waiting: most unfinished items, at least 1.
    """
    room = threading.BoundedSemaphore(max(1, waiting))
    failed: list[Future[None]] = []

    def one(item: T) -> None:
        try:
            if not failed:
                work(item)
        finally:
            room.release()

    def done(future: Future[None]) -> None:
        if future.exception() is not None:
            failed.append(future)

    def hand_over(item: T) -> None:
        room.acquire()
        if failed:
            failed[0].result()
        pool.submit(one, item).add_done_callback(done)

    with ThreadPoolExecutor(1) as pool:
        yield hand_over
    if failed:
        failed[0].result()


def in_order(
    work: Callable[[T], R], items: Iterable[T], threads: int, start: Callable[[], None] | None = None
) -> Iterator[R]:
    """Results of ``work`` in the order of the items; ``threads`` items are worked on at once, few wait in memory.

    Args:
        start: called once in each thread before its first item.
    """
    threads = max(1, threads)
    with ThreadPoolExecutor(threads, initializer=start) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
