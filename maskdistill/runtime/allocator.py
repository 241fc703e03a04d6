"""How the C library hands memory back to the system: not after every tensor, on a CPU."""

import ctypes
import platform

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
MMAP_BYTES = 32 * 2**20
"""Size from which blocks are mapped separately and returned when freed: the largest that glibc accepts."""
KEPT_BYTES = 256 * 2**20
"""Largest amount of freed memory that a process keeps at the end of its heap."""


def return_freed_memory() -> None:
    """Return the memory that each thread of this process has freed: glibc keeps one heap per thread at its
    peak size.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of freed tensors instead of fetching fresh pages for each new one.

    Otherwise a network's forward pass on a CPU keeps touching fresh pages for its activations, which takes a
    tenth of the time of a ViT-S/16 in bfloat16 (``tests/benchmarks/features.py``).

    Returns:
        Whether it took effect; only glibc has these settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)) and bool(
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    )
