"""The background thread of writing stages."""

import threading

import pytest

from maskdistill.runtime.background import in_background


def test_items_are_worked_on_in_order_elsewhere() -> None:
    seen: list[int] = []
    threads: set[int] = set()

    def work(item: int) -> None:
        seen.append(item)
        threads.add(threading.get_ident())

    with in_background(work, waiting=2) as hand_over:
        for item in range(50):
            hand_over(item)
    assert seen == list(range(50))
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_no_more_than_the_bound_wait() -> None:
    """The third hand-over blocks until the first item is done."""
    go, third = threading.Event(), threading.Event()

    def work(item: int) -> None:
        go.wait(10)

    def produce() -> None:
        with in_background(work, waiting=2) as hand_over:
            hand_over(0)
            hand_over(1)
            hand_over(2)
            third.set()

    producer = threading.Thread(target=produce)
    producer.start()
    assert not third.wait(0.3)
    go.set()
    assert third.wait(10)
    producer.join()


@pytest.mark.parametrize("count", [4, 40])
def test_an_exception_comes_out_and_stops_the_rest(count: int) -> None:
    seen: list[int] = []

    def work(item: int) -> None:
        if item == 3:
            raise OSError("disk full")
        seen.append(item)

    with pytest.raises(OSError, match="disk full"), in_background(work) as hand_over:
        for item in range(count):
            hand_over(item)
    assert seen == [0, 1, 2]


def test_an_exception_of_the_block_is_kept() -> None:
    seen: list[int] = []
    with pytest.raises(KeyError), in_background(seen.append) as hand_over:
        hand_over(1)
        raise KeyError
    assert seen == [1], "what was handed over is finished"
