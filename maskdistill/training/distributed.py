"""The same training in one process or in one process a GPU."""

import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

M = TypeVar("M", bound=nn.Module)


def rank_and_world() -> tuple[int, int]:
    """``(rank, world_size)``; ``(0, 1)`` outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def data_parallel(module: M, device: torch.device) -> M | DistributedDataParallel:
    """Wrap ``module`` so that gradients are averaged over the processes; alone it is returned as it is."""
    if rank_and_world()[1] == 1:
        return module
    return DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None)


def gather_batch(tensor: Tensor) -> Tensor:
    """Concatenate ``tensor`` (n, ...) of every process along axis 0, differentiably."""
    if rank_and_world()[1] == 1:
        return tensor
    from torch.distributed.nn.functional import all_gather

    return torch.cat(list(all_gather(tensor)))


def _worker(rank: int, function: Callable[..., None], world: int, port: int, backend: str, args: tuple[Any, ...]) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(world))
    if backend == "nccl":
        torch.cuda.set_device(rank)
    dist.init_process_group(backend, rank=rank, world_size=world)
    try:
        function(*args)
    finally:
        dist.destroy_process_group()


def launch(function: Callable[..., None], processes: int, args: tuple[Any, ...], backend: str = "nccl") -> None:
    """Run ``function(*args)`` in ``processes`` processes of one group, or here when that is at most 1.

    Args:
        function: a module-level function; it asks :func:`rank_and_world` who it is.
        processes: number of processes, one a GPU with ``nccl``.
        backend: ``nccl`` or, without GPUs, ``gloo``.
    """
    if processes <= 1:
        function(*args)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_worker, (function, processes, port, backend, args), nprocs=processes)
