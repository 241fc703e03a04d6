"""Freed memory is used again without fresh pages."""

import subprocess
import sys

import pytest

from maskdistill.runtime.allocator import keep_freed_memory

ROUND = """
import resource, sys
import numpy as np
from maskdistill.runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        blocks = [np.empty(20 * 2**20, np.uint8) for _ in range(4)]
        for block in blocks:
            block[::4096] = 1
        del blocks, block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(3)
print(faults(5))
"""


def test_freed_memory_is_kept() -> None:
    if not keep_freed_memory():
        pytest.skip("this C library is not glibc")
    kept, returned = (
        int(
            subprocess.run(
                [sys.executable, "-c", ROUND, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("keep", "default")
    )
    assert kept < 5, "80 MB are taken and freed five times: not one page of them may be fresh"
    assert returned > 100
