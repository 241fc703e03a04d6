"""Work on many items in several processes, in order."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

import cv2

from maskdistill.runtime.background import RESULTS, end_with_parent
from maskdistill.runtime.devices import set_threads
from maskdistill.runtime.patience import result_of
from maskdistill.runtime.shared_memory import ONE_THREAD, naming_lack

T = TypeVar("T")
R = TypeVar("R")
CHUNK = 64
_given: tuple[Callable[[Any], Any], Sequence[Any]] | None = None
"""Work and items of the pool to which this process belongs."""


def in_forks(work: Callable[[T], R], items: Sequence[T], processes: int) -> Iterator[R]:
    """Results of ``work`` in the order of the items; for one process or one item it runs here.

    The processes are forks: they start at once and share memory, so only the results need to be picklable,
    not ``work`` or the items. Each computes with one thread. The caller must not hold a CUDA context.

    Raises:
        The first exception of ``work``, in the order of the items.
    """
    processes = min(processes, len(items))
    if processes <= 1:
        yield from map(work, items)
        return
    size = max(1, min(CHUNK, len(items) // (8 * processes)))
    chunks = [(start, start + size) for start in range(0, len(items), size)]
    context = multiprocessing.get_context("fork")
    cv2.setNumThreads(1)  # a pool of threads started by OpenCV would not survive the fork
    with naming_lack(ONE_THREAD):
        executor = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(work, items))
    with executor as pool:
        waiting: deque[Future[list[R]]] = deque()
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_work_on, *chunk))
                if len(waiting) >= 4 * processes:
                    yield from result_of(waiting.popleft(), RESULTS, ONE_THREAD)
            while waiting:
                yield from result_of(waiting.popleft(), RESULTS, ONE_THREAD)
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(work: Callable[[Any], Any], items: Sequence[Any]) -> None:
    global _given
    _given = work, items
    set_threads(1)
    end_with_parent()


def _work_on(start: int, stop: int) -> list[Any]:
    assert _given is not None
    work, items = _given
    return [work(item) for item in items[start:stop]]
