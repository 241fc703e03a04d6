"""Loading processes that cannot hand over, end, or do nothing any more: a message, and never an endless
wait.
"""

import errno
import multiprocessing
import multiprocessing.synchronize
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from processes_left import alive
from torch.utils.data import Dataset

from maskdistill.runtime import background, loading, patience, processes, shared_memory
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.loading import load_batches, load_in_order
from maskdistill.runtime.patience import Patience, result_of

CPU = torch.device("cpu")


class Items(Dataset[Any]):
    """What ``make`` returns for 0, 1, 2 and 3."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


def in_order(make: Callable[[int], Any], workers: int = 1) -> Iterator[Any]:
    return load_in_order(Items(make), workers, CPU)


def in_batches(make: Callable[[int], Any], workers: int = 1) -> Iterator[Any]:
    return load_batches(Items(make), [[0, 1], [2, 3]], workers)  # type: ignore[arg-type]


def picture(index: int) -> torch.Tensor:
    return torch.full((3, 40, 50), index, dtype=torch.uint8)


ways = pytest.mark.parametrize("load", [in_order, in_batches])


@ways
@pytest.mark.parametrize("workers", [0, 1])
def test_items_arrive_as_they_are(load: Callable[..., Iterator[Any]], workers: int) -> None:
    def make(index: int) -> dict[str, Any]:
        return {"image": picture(index), "pair": (index, picture(index)[:, :10].permute(2, 0, 1))}

    whole = list(load(make, workers))
    places = [item["pair"][0] for item in whole]
    assert torch.stack([torch.as_tensor(place).flatten() for place in places]).flatten().tolist() == [
        0,
        1,
        2,
        3,
    ]
    images = [item["image"] if load is in_batches else item["image"][None] for item in whole]
    assert torch.equal(torch.cat(images), torch.stack([picture(index) for index in range(4)]))


def no_room(*_: object, **__: object) -> None:
    raise RuntimeError(
        "unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)"
    )


def no_files(*_: object, **__: object) -> None:
    raise RuntimeError(
        "unable to open shared memory object </torch_1_2> in read-write mode: Too many open files (24)"
    )


@pytest.mark.slow
@pytest.mark.hostile(
    "files: no room in /dev/shm (containers have 64 MiB), with loading processes",
    outcome="the stage stops and names --shm-size and `workers: 0`; doctor warns",
)
@ways
@pytest.mark.parametrize(
    ("fail", "said"), [(no_room, "--shm-size=2g.*`workers: 0`"), (no_files, "ulimit -n.*workers")]
)
def test_no_room_to_hand_over(
    load: Callable[..., Iterator[Any]], fail: Callable[..., None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch says so in the worker, which is a fork and so has the function that is put here."""
    monkeypatch.setattr(torch.Tensor, "share_memory_", fail)
    with pytest.raises(MaskDistillError, match=said):
        list(load(picture))


@ways
def test_an_item_lost_on_the_way_ends_the_worker(
    load: Callable[..., Iterator[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be sent is dropped by the queue of a worker, which goes on: it used to be waited for, for
    ever.
    """
    monkeypatch.setattr(loading, "LOOK", 1.0)
    began = time.monotonic()
    with pytest.raises(MaskDistillError, match="a process that worked for it was killed"):
        list(load_batches(Items(picture), [[0], [1]], 1,
        collate=lambda _: lambda: None)  # type: ignore[arg-type]
             if load is in_batches else load(lambda _: lambda: None))  # fmt: skip
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOSYS, errno.EACCES])
@pytest.mark.parametrize(
    ("start", "said"),
    [
        (lambda: in_order(picture), "`workers: 0`"),
        (lambda: list(processes.in_forks(str, [1, 2, 3], 2)), "--set-threads"),
        (lambda: list(background.in_processes(str, [1, 2, 3], 2)), "--set-threads"),
    ],
)
def test_no_room_for_a_semaphore(
    start: Callable[[], object], said: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", refuse)
    with pytest.raises(MaskDistillError, match=rf"/dev/shm has no room.*--shm-size=2g.*{said}"):
        start()


NAMESPACE = ["unshare", "--mount", "bash", "-c"]
TINY = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
CHILD = """if True:
    import sys
    import torch
    from torch.utils.data import Dataset
    from maskdistill.runtime.errors import MaskDistillError
    from maskdistill.runtime.loading import load_in_order

    class Items(Dataset):
        def __len__(self):
            return 4
        def __getitem__(self, index):
            return torch.zeros(3, 700, 900, dtype=torch.uint8)

    try:
        list(load_in_order(Items(), 1, torch.device("cpu")))
    except MaskDistillError as error:
        print(error)
    """


@pytest.mark.slow
def test_a_container_with_one_megabyte_of_shared_memory() -> None:
    """The real thing, where a file system may be mounted."""
    try:
        subprocess.run([*NAMESPACE, TINY, "-", "true"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("no right to mount another /dev/shm here")
    done = subprocess.run(
        [*NAMESPACE, TINY, "-", sys.executable, "-c", CHILD],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("/dev/shm has no room (1 MiB, ") and "Traceback" not in done.stderr
    assert "(docker run --shm-size=2g), or set `workers: 0`" in done.stdout


# ---------------------------------------------------------------- patience


def sleep(seconds: float, _: int) -> int:
    time.sleep(seconds)
    return 1


def compute(seconds: float, _: int) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (loading, patience):
        monkeypatch.setattr(module, "LOOK", 1 if module is loading else 0.1)
    monkeypatch.setattr(patience, "IDLE", 1.0)
    monkeypatch.setattr(patience, "AT_WORK", 0.1)


@pytest.mark.hostile(
    "files: a file system that hangs under the loading processes",
    outcome="after ten minutes in which they computed nothing the stage stops and says so; slow ones are "
    "waited for",
)
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "start",
    [
        lambda work: list(in_order(work)),
        lambda work: list(processes.in_forks(work, [1, 2, 3], 2)),
    ],
    ids=["loader", "forks"],
)
def test_idle_processes_are_given_up(start: Callable[[Callable[[int], int]], object]) -> None:
    before = {child.pid for child in multiprocessing.active_children()}  # of tests that ran in this process
    with pytest.raises(MaskDistillError, match=r"no process that makes them has computed anything.*again"):
        start(partial(sleep, 60.0))
    assert not [
        child for child in multiprocessing.active_children() if child.is_alive() and child.pid not in before
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_slow_processes_are_waited_for() -> None:
    assert list(processes.in_forks(partial(compute, 2.0), [1, 2], 2)) == [1, 1]


@pytest.mark.usefixtures("impatient")
def test_nothing_is_waited_for_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LONGEST", 0.5)
    with pytest.raises(MaskDistillError, match=r"none has come for [01] s; do this, and give"):
        result_of(Future[int](), "results", "do this")


def test_what_is_said_while_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "maskdistill")
    waiting = Patience("pictures", "do this")
    waiting.check()
    assert not caplog.text
    monkeypatch.setattr(patience, "REMIND", 0.0)
    waiting.check()
    assert "waiting for pictures since 0 s" in caplog.text


def test_an_error_of_the_work_is_not_a_wait() -> None:
    failed = Future[int]()
    failed.set_exception(TimeoutError("its own"))
    with pytest.raises(TimeoutError, match="its own"):
        result_of(failed, "results", "do this")


def test_forks_end_with_their_parent(tmp_path: Path) -> None:
    code = f"""if True:
        import os, time
        from pathlib import Path
        from maskdistill.runtime.processes import in_forks
        def work(_):
            Path({str(tmp_path)!r}, str(os.getpid())).touch()
            time.sleep(100)
        list(in_forks(work, [1, 2, 3, 4], 2))
        """
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
    workers = [int(path.name) for path in tmp_path.iterdir()]
    assert len(workers) == 2
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(worker) for worker in workers)


def test_what_is_a_lack_of_shared_memory() -> None:
    assert shared_memory.lack(ValueError("no room")) is None
    assert shared_memory.lack(OSError(errno.EIO, "Input/output error")) is None
    assert shared_memory.ended("RuntimeError: 3") is None
    bus = "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ..."
    assert "--shm-size" in (shared_memory.ended(bus) or "")
    assert "memory ran out" in (
        shared_memory.ended("DataLoader worker (pid 7) is killed by signal: Killed.") or ""
    )
