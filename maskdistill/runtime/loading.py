"""Items or batches of a data set in order, prepared ahead by worker processes."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from maskdistill.runtime.devices import single_thread
from maskdistill.runtime.errors import MaskDistillError

T = TypeVar("T")


class _Guarded(Dataset[T | MaskDistillError]):
    """Hands an error over as a value: raised in a worker, its traceback would bury the message.

    An index is whatever the data set, or its sampler, understands.
    """

    def __init__(self, items: Dataset[T]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> T | MaskDistillError:
        try:
            return self.items[index]
        except MaskDistillError as error:
            return error


def decoding_workers(workers: int | None, device: torch.device, threads: int) -> int:
    """Decoding processes for a network that runs on ``device``.

    Args:
        workers: as configured; None: none on a CPU, where decoding takes a hundredth of the network's time and a
            process more would take its cores; on a GPU one less than ``threads``, at least 1.
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
    guarded = _Guarded(items)
    number = min(workers, len(guarded))
    loader: DataLoader[T | MaskDistillError] = DataLoader(
        guarded,
        batch_size=None,
        num_workers=number,
        worker_init_fn=single_thread,
        pin_memory=device.type == "cuda",
        prefetch_factor=max(1, ahead) if number else None,
    )
    return _unguarded(iter(loader))


class _Collate:
    """Puts the items of a batch together; an error among them takes the batch's place."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> Any:
        errors = [item for item in items if isinstance(item, MaskDistillError)]
        return errors[0] if errors else self.collate(items)


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
        worker_init_fn=single_thread,
        pin_memory=pin_memory,
        prefetch_factor=ahead if workers else None,
    )
    return _unguarded(iter(loader))


def _unguarded(loaded: Iterator[T | MaskDistillError]) -> Iterator[T]:
    for item in loaded:
        if isinstance(item, MaskDistillError):
            raise item
        yield item
