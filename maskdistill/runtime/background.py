"""Ordered work in threads or processes with bounded queues: one writes in the background, several work
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
    """Yield a function that passes an item to ``work`` in a thread; items are processed one by one, in order.

    The function blocks while ``waiting`` items are unfinished. The first exception of ``work`` is raised by
    its next call or at the end of the block, and no item is processed after it. The block ends when all items
    are done.

    Args:
        work: called in the background with each item.
        waiting: largest number of unfinished items, at least 1.
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
    """Results of ``work`` in the order of the items; ``threads`` items are processed at once, few wait in
    memory.

    Args:
        start: called once in each thread before its first item.
    """
    threads = max(1, threads)
    with ThreadPoolExecutor(threads, initializer=start) as pool:
        yield from _ahead(pool, work, items, 2 * threads)


def in_processes(work: Callable[[T], R], items: Iterable[T], processes: int) -> Iterator[R]:
    """As :func:`in_order`, with processes, for work that holds Python's lock; if only one is granted, in this
    process.

    The processes are not forks and get items one by one, so the caller may have threads or use a GPU and need
    not know all items in advance. Otherwise :func:`maskdistill.runtime.processes.in_forks` starts faster.

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
    """Pass items to the pool, at most ``waiting`` before the oldest result is taken by ``take``."""
    unfinished: deque[Future[R]] = deque()
    for item in items:
        unfinished.append(pool.submit(work, item))
        if len(unfinished) >= waiting:
            yield take(unfinished.popleft())
    while unfinished:
        yield take(unfinished.popleft())


def end_with_parent() -> None:
    """End this worker if its parent was killed, or it would wait for work for ever."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the terminal sends Ctrl-C to all; the parent ends its workers
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
