"""Work in threads or processes with bounded queues, in order: one that writes behind, several that work
ahead.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from maskdistill.runtime.patience import result_of
from maskdistill.runtime.shared_memory import ONE_THREAD, naming_lack

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def in_background(work: Callable[[T], None], waiting: int = 4) -> Iterator[Callable[[T], None]]:
    """Yield a function that hands an item to ``work`` in a thread; items are worked on one by one, in order.

    Handing over blocks while ``waiting`` items are unfinished. The first exception of ``work`` is raised by
    the next hand-over or at the end of the block, and nothing is worked on after it. The block ends when all
    is done.

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
    """Results of ``work`` in the order of the items; ``threads`` items are worked on at once, few wait in
    memory.

    Args:
        start: called once in each thread before its first item.
    """
    threads = max(1, threads)
    with ThreadPoolExecutor(threads, initializer=start) as pool:
        yield from _ahead(pool, work, items, 2 * threads)


def in_processes(work: Callable[[T], R], items: Iterable[T], processes: int) -> Iterator[R]:
    """As :func:`in_order` with processes, for work that holds Python's lock; in this process where one is
    granted.

    They are new ones and get items one by one, so a caller may have threads or a GPU and need not know all
    items; :func:`maskdistill.runtime.processes.in_forks` starts faster where neither holds.

    Args:
        work: a function at the top level of a module, or a partial of one: it is sent to new processes.
    """
    if processes <= 1:
        yield from map(work, items)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with naming_lack(ONE_THREAD):
        executor = ProcessPoolExecutor(processes, spawn, initializer=end_with_parent)
    with executor as pool:
        yield from _ahead(
            pool, work, items, 2 * processes, lambda future: result_of(future, RESULTS, ONE_THREAD)
        )


RESULTS = "results of the processes that share this work"


def _ahead(
    pool: Executor,
    work: Callable[[T], R],
    items: Iterable[T],
    waiting: int,
    take: Callable[[Future[R]], R] = Future.result,
) -> Iterator[R]:
    """Hand items to the pool, at most ``waiting`` before the oldest result is taken, by ``take``."""
    unfinished: deque[Future[R]] = deque()
    for item in items:
        unfinished.append(pool.submit(work, item))
        if len(unfinished) >= waiting:
            yield take(unfinished.popleft())
    while unfinished:
        yield take(unfinished.popleft())


def end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent ends its workers
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
