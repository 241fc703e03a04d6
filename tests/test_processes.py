"""Several processes: the order, an exception, and that it happens elsewhere."""

import os
from collections.abc import Callable

import pytest

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.processes import in_forks


def squares_with(offset: int) -> Callable[[int], tuple[int, int]]:
    """Work that could not be pickled."""
    return lambda value: (value * value + offset, os.getpid())


@pytest.mark.parametrize("count", [0, 1, 2, 7, 500])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_order_and_place(count: int, processes: int) -> None:
    found = list(in_forks(squares_with(3), range(count), processes))
    assert [value for value, _ in found] == [value * value + 3 for value in range(count)]
    assert (os.getpid() in {process for _, process in found}) == (count > 0 and min(processes, count) == 1)


def test_the_first_exception_is_raised_after_what_came_before_it() -> None:
    def work(value: int) -> int:
        if value in (40, 90):
            raise MaskDistillError(f"no {value}")
        return value

    seen = []
    with pytest.raises(MaskDistillError, match="no 40"):
        for value in in_forks(work, range(100), 2):
            seen.append(value)
    assert seen == list(range(len(seen))) and 0 < len(seen) <= 40
