"""Items of a data set in order, prepared ahead by worker processes."""

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from maskdistill.runtime.devices import single_thread
from maskdistill.runtime.errors import MaskDistillError

T = TypeVar("T")


class _Guarded(Dataset[T | MaskDistillError]):
    """Hands an error over as a value: raised in a worker, its traceback would bury the message."""

    def __init__(self, items: Dataset[T]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> T | MaskDistillError:
        try:
            return self.items[index]
        except MaskDistillError as error:
            return error


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


def _unguarded(loaded: Iterator[T | MaskDistillError]) -> Iterator[T]:
    for item in loaded:
        if isinstance(item, MaskDistillError):
            raise item
        yield item
