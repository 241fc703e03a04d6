"""Items or batches of a data set, in order, prepared ahead by worker processes."""

import multiprocessing
import multiprocessing.queues
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from maskdistill.runtime.budget import share_among_forks
from maskdistill.runtime.devices import single_thread
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.patience import LOOK, Patience
from maskdistill.runtime.shared_memory import NO_WORKERS, end_worker, ended, lack, naming_lack

T = TypeVar("T")


class _Guarded(Dataset[T | MaskDistillError]):
    """Passes an error on as a value: raised in a worker, its traceback would bury the message.

    An index is whatever the data set, or its sampler, uses.

    Args:
        items: the data set.
        hand_over: whether single items, not batches, are sent from a worker.
    """

    def __init__(self, items: Dataset[T], hand_over: bool = False) -> None:
        self.items, self.hand_over = items, hand_over

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> T | MaskDistillError:
        try:
            item = self.items[index]
            return _shared(item) if self.hand_over else item
        except MaskDistillError as error:
            return error


def _shared(item: T) -> T:
    """An item with its tensors in shared memory, if it is made in a worker and sent from there.

    Otherwise torch would move them while sending, in a thread of the worker whose errors go unnoticed, and
    the item would be lost.

    Raises:
        MaskDistillError: there is no room.
    """
    if get_worker_info() is not None:
        try:
            _share(item)
        except (RuntimeError, OSError) as error:
            if said := lack(error):
                raise MaskDistillError(said) from None
            raise
    return item


def _share(item: Any) -> None:
    if isinstance(item, torch.Tensor):
        item.share_memory_()  # type: ignore[no-untyped-call]
    elif isinstance(item, Mapping):
        _share(list(item.values()))
    elif isinstance(item, (list, tuple)):
        for part in item:
            _share(part)


def _start_worker(worker: int) -> None:
    """Set up a new loading process: one thread, and no item is lost silently."""
    single_thread(worker)
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(end_worker)  # type: ignore[attr-defined]


def decoding_workers(workers: int | None, device: torch.device, threads: int) -> int:
    """Number of decoding processes for a network that runs on ``device``.

    Args:
        workers: as configured. None: on a CPU 0, as decoding takes a hundredth of the network's time and
            another process would take its cores; on a GPU ``threads`` - 1, at least 1.
        threads: granted to the stage.
    """
    if workers is not None:
        return workers
    return max(1, threads - 1) if device.type == "cuda" else 0


def load_in_order(items: Dataset[T], workers: int, device: torch.device, ahead: int = 2) -> Iterator[T]:
    """Start the workers now and return an iterator over all items, in order, one by one.

    Call it before an HDF5 file is opened, which a forked worker must not inherit.

    Args:
        items: a map-style data set with a length.
        workers: processes of one thread each; 0: items are made here, when asked for.
        device: pinned memory is used for a GPU.
        ahead: items that each worker prepares ahead.

    Raises:
        MaskDistillError: by the iterator, as the data set raised it.
    """
    guarded = _Guarded(items, hand_over=True)
    number = min(workers, len(guarded))
    loader: DataLoader[T | MaskDistillError] = DataLoader(
        guarded,
        batch_size=None,
        num_workers=number,
        worker_init_fn=_start_worker,
        pin_memory=device.type == "cuda",
        prefetch_factor=max(1, ahead) if number else None,
        timeout=LOOK if number else 0,
    )
    return _unguarded(_begin(loader))


class _Collate:
    """Combines items into a batch; an error among them replaces the batch."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> Any:
        errors = [item for item in items if isinstance(item, MaskDistillError)]
        if errors:
            return errors[0]
        try:
            return _shared(self.collate(items))
        except MaskDistillError as error:
            return error
        except (RuntimeError, OSError) as error:  # collating allocates shared memory too
            if get_worker_info() is not None and (said := lack(error)):
                return MaskDistillError(said)
            raise


def load_batches(
    items: Dataset[Any],
    sampler: Sampler[list[Any]],
    workers: int,
    pin_memory: bool = False,
    collate: Callable[[list[Any]], Any] = default_collate,
    ahead: int = 2,
) -> Iterator[Any]:
    """Start the workers now and return an iterator over the batches of ``sampler``.

    Args:
        items: a map-style data set over the sampler's indices.
        workers: processes of one thread each; 0: items are made here, when asked for.
        pin_memory: for copies to a GPU.
        collate: makes a batch of a list of items.
        ahead: batches that each worker prepares ahead.

    Raises:
        MaskDistillError: by the iterator, as the data set raised it.
    """
    loader: DataLoader[Any] = DataLoader(
        _Guarded(items),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_Collate(collate),
        worker_init_fn=_start_worker,
        pin_memory=pin_memory,
        prefetch_factor=ahead if workers else None,
        timeout=LOOK if workers else 0,
    )
    return _unguarded(_begin(loader))


def _unguarded(loaded: Iterator[T | MaskDistillError]) -> Iterator[T]:
    item = None
    try:
        while (item := _next(loaded)) is not _END:
            if isinstance(item, MaskDistillError):
                raise item
            yield item
    finally:
        # An error refers to this frame. If the frame referred to the error too, both and the workers would
        # be freed by the garbage collector alone, and torch would wait five seconds for each worker.
        del item, loaded


_END: Any = object()


def _begin(loader: DataLoader[T]) -> Iterator[T]:
    """Start the workers.

    Raises:
        MaskDistillError: there is no shared memory for communicating with them.
    """
    with naming_lack(NO_WORKERS):
        if loader.num_workers:
            share_among_forks()  # without room, a half-made iterator would print another traceback
        return iter(loader)


def _next(loaded: Iterator[T]) -> T:
    """The next item, or :data:`_END`; waits as long as the workers make progress.

    Raises:
        MaskDistillError: a worker has ended, or none does anything any more.
    """
    patience = None
    while True:
        try:
            return next(loaded, _END)
        except RuntimeError as error:
            if said := ended(str(error)):
                raise MaskDistillError(said) from None
            if "DataLoader timed out" not in str(error):
                raise
        patience = patience or Patience("pictures from the loading processes", _REMEDY)
        patience.check()


_REMEDY = f"see whether the pictures' file system hangs, or {NO_WORKERS}"
