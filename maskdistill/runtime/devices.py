"""Which device a stage computes on, and how many threads it may use.

torch takes seconds to load, so it is imported here only for stages that use it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from maskdistill.runtime.allocator import keep_freed_memory
from maskdistill.runtime.cores import available_cores
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.leases import claim_gpus

if TYPE_CHECKING:
    import torch


def pick_device(device: str = "auto", gpus: int = 1) -> torch.device:
    """Device for a stage. A process that computes on the CPU also starts to reuse the memory of freed
    tensors.

    Args:
        device: ``auto``, ``cpu`` or ``cuda[:N]``. ``auto`` takes a GPU if one was granted and exists.
        gpus: number of GPUs granted by the scheduler; 0 means CPU under ``auto``. GPUs are claimed first.
    """
    claim_gpus(device, gpus)
    import torch

    if device == "auto":
        chosen = torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")
    else:
        chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise MaskDistillError(f"--device {device}: no CUDA device is visible; use --device cpu or auto")
    if chosen.type == "cpu":
        keep_freed_memory()
    full_precision()
    return chosen


def mixed(device: torch.device, precision: str) -> torch.autocast:
    """Context with a precision of matrix products and convolutions: ``float32``, or ``bfloat16`` by autocast.

    Keep code that needs full precision, such as losses, outside of it.
    """
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def full_precision() -> None:
    """Compute float32 in full: by default torch rounds the inputs of convolutions on GPUs to TF32's 10
    bits.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False


def set_threads(threads: int) -> int:
    """Limit OpenMP and, if loaded, torch to the granted threads and the usable cores.

    Returns:
        The number of threads, at least 1.
    """
    threads = max(1, min(threads, available_cores()))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return threads


def single_thread(worker: int) -> None:
    """Set up a data loading process with one thread: the processes themselves are the parallelism."""
    set_threads(1)


def make_deterministic(seed: int) -> None:
    """Seed torch's global generator and ask for deterministic kernels where they exist."""
    import torch

    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
