"""GPU leases with made-up devices: none is held twice, none is lost, whoever dies."""

import os
import random
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from maskdistill.runtime import leases
from maskdistill.runtime.devices import pick_device
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.leases import claim_gpus, lease, lease_folder, select, visible_gpus

UUIDS = ["GPU-a0", "GPU-b1", "GPU-c2", "GPU-d3"]
WORKER = """
import os, random, sys, time
from pathlib import Path
from maskdistill.runtime.leases import lease
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
chance = random.Random(seed)
with open(folder / f"events-{os.getpid()}", "w", buffering=1) as events:
    while not (folder / "stop").exists():
        held = lease(sys.argv[3:], chance.choice([1, 1, 1, 2, 4]), folder)
        now = time.monotonic_ns()
        for uuid, _ in held:
            print("+", uuid, now, file=events)
        time.sleep(chance.uniform(0, 0.004))
        now = time.monotonic_ns()
        for uuid, lock in held:
            print("-", uuid, now, file=events)
            lock.release()
"""
WANTED, WORKERS, KILLS = 1000, 16, 24


def start_worker(folder: Path, seed: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-c", WORKER, str(folder), str(seed), *UUIDS], env=environment)


def held_spans(folder: Path, killed: dict[int, int]) -> dict[str, list[tuple[int, int]]]:
    """Of each device when it was held, from and until; a killed process held until it was killed."""
    spans: dict[str, list[tuple[int, int]]] = {uuid: [] for uuid in UUIDS}
    for path in folder.glob("events-*"):
        open_since: dict[str, int] = {}
        for line in path.read_text().splitlines():
            sign, uuid, moment = line.split()
            if sign == "+":
                open_since[uuid] = int(moment)
            else:
                spans[uuid].append((open_since.pop(uuid), int(moment)))
        pid = int(path.name.removeprefix("events-"))
        assert pid in killed or not open_since
        for uuid, since in open_since.items():
            spans[uuid].append((since, max(since, killed[pid])))
    return spans


@pytest.mark.slow
def test_a_thousand_leases_by_sixteen_processes_of_which_some_are_killed(tmp_path: Path) -> None:
    chance = random.Random(3)
    workers = [start_worker(tmp_path, seed) for seed in range(WORKERS)]
    killed: dict[int, int] = {}
    deadline = time.monotonic() + 300
    try:
        while (count := sum(path.read_text().count("+") for path in tmp_path.glob("events-*"))) < WANTED:
            assert time.monotonic() < deadline, (
                f"{count} leases: a device was lost, or the processes wait for ever"
            )
            if len(killed) < KILLS and count > WANTED * len(killed) / KILLS:
                place = chance.randrange(WORKERS)
                moment = time.monotonic_ns()
                workers[place].kill()
                workers[place].wait()
                killed[workers[place].pid] = moment
                workers[place] = start_worker(tmp_path, 100 + len(killed))
            time.sleep(0.01)
    finally:
        (tmp_path / "stop").touch()
        for worker in workers:
            worker.wait(60)
    spans = held_spans(tmp_path, killed)
    assert sum(map(len, spans.values())) >= WANTED and len(killed) == KILLS
    for uuid, held in spans.items():
        held.sort()
        assert held, f"{uuid} was never taken"
        for (_, until), (since, _) in pairwise(held):
            assert since >= until, f"{uuid} was held twice"
    free = lease(UUIDS, len(UUIDS), tmp_path)
    assert [uuid for uuid, _ in free] == UUIDS, "all are free in the end"
    for _, lock in free:
        lock.release()


def test_a_job_for_all_is_not_overtaken_for_ever(tmp_path: Path) -> None:
    first = lease(UUIDS, 1, tmp_path)
    order: list[list[str]] = []

    def take(count: int) -> None:
        held = lease(UUIDS[:count], count, tmp_path)
        order.append([uuid for uuid, _ in held])
        for _, lock in held:
            lock.release()

    jobs = [threading.Thread(target=take, args=(count,), daemon=True) for count in (4, 1)]
    for job in jobs:
        job.start()
        time.sleep(0.3)
    assert order == [], "the small one queues behind the large one, which waits for the first GPU"
    first[0][1].release()
    for job in jobs:
        job.join(10)
    assert order == [UUIDS, UUIDS[:1]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, UUIDS),
        ("2,0", ["GPU-c2", "GPU-a0"]),
        ("1,9,0", ["GPU-b1"]),
        ("-1", []),
        ("GPU-d, GPU-b1", ["GPU-d3", "GPU-b1"]),
        ("MIG-77", ["MIG-77"]),
        ("none", []),
    ],
)
def test_what_cuda_visible_devices_names(given: str | None, expected: list[str]) -> None:
    assert select(UUIDS, given) == expected


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with four GPUs, as far as nvidia-smi says."""
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\nprintf '%s\\n' " + " ".join(UUIDS) + "\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("MASKDISTILL_LEASES", str(tmp_path / "leases"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(leases, "_leases", [])
    return tmp_path / "leases"


def claimed(device: str, gpus: int, visible: str | None = None) -> str:
    """CUDA_VISIBLE_DEVICES and the GPUs held, in a process of its own that has claimed and ended."""
    code = (
        "import os, sys; from maskdistill.runtime.leases import claim_gpus; claim_gpus(sys.argv[1], "
        "int(sys.argv[2]));"
    )
    code += "claim_gpus(sys.argv[1], int(sys.argv[2]));"
    code += "print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('MASKDISTILL_LEASED'))"
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": visible} if visible is not None else {})
    done = subprocess.run(
        [sys.executable, "-c", code, device, str(gpus)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_claims(machine: Path) -> None:
    assert visible_gpus() == UUIDS
    assert claimed("auto", 1) == "GPU-a0 GPU-a0"
    assert claimed("auto", 2) == "GPU-a0,GPU-b1 GPU-a0,GPU-b1"
    assert claimed("auto", 9) == ",".join(UUIDS) + " " + ",".join(UUIDS)
    assert claimed("auto", 0) == "None None"
    assert claimed("cpu", 4) == "None None"
    assert claimed("auto", 1, visible="3,1") == "GPU-d3 GPU-d3"
    assert claimed("auto", 1, visible="") == "None", "CUDA_VISIBLE_DEVICES stays empty"
    assert claimed("cuda:2", 1) == "None GPU-c2"


def test_a_held_gpu_is_left_to_its_holder(machine: Path) -> None:
    held = lease(UUIDS, 2, lease_folder())
    assert claimed("auto", 1) == "GPU-c2 GPU-c2"
    for _, lock in held:
        lock.release()


def test_children_share_what_their_parent_holds(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = lease(UUIDS, 4, lease_folder())
    monkeypatch.setenv("MASKDISTILL_LEASED", ",".join(UUIDS))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(UUIDS))
    assert claimed("auto", 4).split()[0] == ",".join(UUIDS), "it does not wait for its parent"
    for _, lock in held:
        lock.release()


def test_without_a_gpu_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MASKDISTILL_LEASES", str(tmp_path / "leases"))
    claim_gpus("auto", 4)
    assert "MASKDISTILL_LEASED" not in os.environ and not (tmp_path / "leases").exists()
    assert pick_device("auto", 0).type == "cpu"


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MaskDistillError, match="5 GPUs are requested, but only 4 are visible"):
        lease(UUIDS, 5, tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("MASKDISTILL_LEASES", str(tmp_path / "link"))
    with pytest.raises(MaskDistillError, match="set MASKDISTILL_LEASES"):
        lease_folder()
