"""The background thread of writing stages, and processes for work that holds Python's lock."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes_left import alive

from maskdistill.runtime.background import in_background, in_processes

HANG = """
import os, sys, time
from maskdistill.runtime.background import in_processes
def work(item):
    print(os.getpid(), flush=True)
    time.sleep(600)
if __name__ == "__main__":
    list(in_processes(work, range(2), 2))
"""


def own_process(item: int) -> tuple[int, int]:
    """The item and who worked on it."""
    if item < 0:
        raise ValueError(f"item {item}")
    return item, os.getpid()


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


def test_processes_give_results_in_order_and_one_is_this_one() -> None:
    found = list(in_processes(own_process, range(9), 2))
    assert [item for item, _ in found] == list(range(9))
    assert os.getpid() not in {process for _, process in found}
    assert {process for _, process in in_processes(own_process, range(3), 1)} == {os.getpid()}


@pytest.mark.parametrize("processes", [1, 2])
def test_an_exception_in_a_process_comes_out(processes: int) -> None:
    with pytest.raises(ValueError, match="item -1"):
        list(in_processes(own_process, [1, -1, 2], processes))


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "hang.py"
    script.write_text(HANG)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(worker) for worker in workers)
