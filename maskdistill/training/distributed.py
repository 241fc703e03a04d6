"""The same training in one process, or in one process per GPU."""

import os
import signal
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

from maskdistill.runtime.devices import full_precision
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.job_record import Work, add_of_child, add_work, gpu_peaks, work

M = TypeVar("M", bound=nn.Module)
TIMEOUT = timedelta(minutes=30)
"""Longest time that processes of a group wait for one another, for example while rank 0 writes a state."""
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals for which torch's launcher installs its own handlers."""
LONGEST_MESSAGE = 8000
"""Largest number of characters: the pipe holds 64 KiB and is read only after the processes have ended."""


def rank_and_world() -> tuple[int, int]:
    """``(rank, world_size)``; ``(0, 1)`` outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def data_parallel(module: M, device: torch.device) -> M | DistributedDataParallel:
    """Wrap ``module`` so that gradients are averaged over the processes; a single process gets it
    unchanged.
    """
    if rank_and_world()[1] == 1:
        return module
    return DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None)


def synchronise_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Let batch normalisation see the batch of all GPUs (SyncBN); for a single process or on CPUs nothing
    changes.
    """
    if rank_and_world()[1] == 1 or device.type != "cuda":
        return module
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return converted


def gather_batch(tensor: Tensor) -> Tensor:
    """Concatenate ``tensor`` (n, ...) of every process along axis 0, differentiably."""
    if rank_and_world()[1] == 1:
        return tensor
    from torch.distributed.nn.functional import all_gather

    return torch.cat(list(all_gather(tensor)))  # type: ignore[no-untyped-call]


def sum_over_processes(values: Tensor) -> Tensor:
    """Elementwise sum of all processes' ``values`` (n,), without gradient; a single process gets its own
    back.
    """
    if rank_and_world()[1] == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def mean_over_processes(values: Tensor) -> Tensor:
    """Elementwise mean of all processes' ``values`` (n,), without gradient; a single process gets its own
    back.

    A sum over this process's items, divided by the mean number of items, has the gradient of the mean over
    all items once :func:`data_parallel` has averaged it.
    """
    _, world = rank_and_world()
    return values if world == 1 else sum_over_processes(values) / world


def number_of_processes(device: torch.device, gpus: int, batch_size: int) -> int:
    """Number of processes for a training: one per GPU that is granted and visible, under ``--device auto`` or
    ``cuda``, else 1.

    Raises:
        MaskDistillError: the batch cannot be split evenly.
    """
    if device.type != "cuda" or device.index is not None:
        return 1
    processes = max(1, min(gpus, torch.cuda.device_count()))
    if batch_size % processes:
        raise MaskDistillError(
            f"batch_size {batch_size} is not divisible by {processes} GPUs; change one of them"
        )
    return processes


@record
def _worker(
    function: Callable[..., None], backend: str, args: tuple[Any, ...], errors: Any
) -> tuple[list[dict[str, Any]], list[Work]]:
    """Returns the GPUs it computed on, with their peak memory, and for rank 0 also the work done."""
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    full_precision()
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        function(*args)
        return gpu_peaks(), [] if rank_and_world()[0] else work()
    except MaskDistillError as error:
        errors.put(str(error)[:LONGEST_MESSAGE])
        raise
    finally:
        dist.destroy_process_group()


def launch(
    function: Callable[..., None], processes: int, args: tuple[Any, ...], backend: str = "nccl"
) -> None:
    """Run ``function(*args)`` in ``processes`` processes of one group, or here when that is at most 1.

    They are started as by ``torchrun --standalone --nproc-per-node``, without restarts: a killed training
    resumes from its state when its entry point runs again.

    Args:
        function: a module-level function, which learns its rank from :func:`rank_and_world`.
        processes: number of processes, one per GPU with ``nccl``.
        backend: ``nccl`` or, without GPUs, ``gloo``.

    Raises:
        MaskDistillError: the first that a process raised.
        ChildFailedError: a process ended in another way.
    """
    if processes <= 1:
        function(*args)
        return
    group = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
    handlers = {one: signal.getsignal(one) for one in HANDLED}
    try:
        ended = elastic_launch(group, _worker)(function, backend, args, errors)
    except ChildFailedError:
        if errors.empty():
            raise
        raise MaskDistillError(errors.get()) from None
    finally:  # the launcher leaves its own in place
        if threading.current_thread() is threading.main_thread():
            for one, handler in handlers.items():
                signal.signal(one, handler)
    for peaks, done in ended.values():
        add_of_child(peaks)
        for one in done:
            add_work(**one)
