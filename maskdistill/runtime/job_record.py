"""What a job cost and how much work it did, in addition to Snakemake's benchmark of the job.

Snakemake measures seconds and resident memory, but neither GPUs nor pictures. The record of
``results/RUN/logs/STAGE/JOB.log`` is ``results/RUN/benchmarks/STAGE/JOB.json``; other logs have none. The
cost of later jobs is estimated from such records (:mod:`maskdistill.product.records`).
"""

import os
import platform
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from maskdistill.runtime.files import write_json
from maskdistill.runtime.leases import HELD

_of_children: list[dict[str, Any]] = []
_work: list["Work"] = []
_settings: dict[str, Any] = {}


class Work(TypedDict):
    """The work done by one loop of a job.

    Attributes:
        unit: ``img``, ``step``, ``mask``, ...
        count: number of units.
        seconds: duration.
    """

    unit: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Begin:
    """Start of a job: clock, processor time, and number of loops that had ended before."""

    wall: float
    cpu: float
    loops: int


def begin() -> Begin:
    """Start a job in this process."""
    _settings.clear()
    return Begin(time.monotonic(), _cpu_seconds(), len(_work))


def add_work(unit: str, count: int, seconds: float) -> None:
    """Add the work of a loop."""
    _work.append({"unit": unit, "count": count, "seconds": seconds})


def work() -> list[Work]:
    """The work of this process's loops so far."""
    return list(_work)


def note_settings(settings: Mapping[str, Any]) -> None:
    """Note settings that a job's time depends on, as JSON values."""
    _settings.update(settings)


def _cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


@cache
def machine() -> str:
    """The kind of machine: its processor and number of cores, of which a job may use fewer."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def gpu_peaks() -> list[dict[str, Any]]:
    """The GPUs on which this process has computed with torch: ``uuid``, ``name`` and peak memory.

    ``peak_allocated_mib`` is the memory of tensors, ``peak_reserved_mib`` what torch reserved on the device
    for them.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        if reserved := torch.cuda.max_memory_reserved(index):
            properties = torch.cuda.get_device_properties(index)
            found.append(
                {
                    "uuid": f"GPU-{properties.uuid}",
                    "name": properties.name,
                    "peak_allocated_mib": round(torch.cuda.max_memory_allocated(index) / 2**20, 1),
                    "peak_reserved_mib": round(reserved / 2**20, 1),
                }
            )
    return found


def add_of_child(peaks: list[dict[str, Any]]) -> None:
    """Add what a child process reported by :func:`gpu_peaks`."""
    _of_children.extend(peaks)


def job_record(stage: str, since: Begin) -> dict[str, Any]:
    """The record of this process and its children.

    Returns:
        ``stage``; ``device``, ``cuda`` or ``cpu``; ``leased``, the UUIDs of the GPUs that the job held;
        ``gpus``, those that it computed on, as in :func:`gpu_peaks` (without FAISS's own memory);
        ``peak_rss_mib``, of its largest process; ``machine``; ``seconds`` and ``cpu_seconds`` since
        ``since``; ``work``, each :class:`Work`; ``settings``, as noted.
    """
    gpus = sorted(gpu_peaks() + _of_children, key=lambda gpu: str(gpu["uuid"]))
    leased = [uuid for uuid in os.environ.get(HELD, "").split(",") if uuid]
    largest = max(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    kib = largest / 1024 if sys.platform == "darwin" else largest
    return {
        "stage": stage,
        "device": "cuda" if gpus or leased else "cpu",
        "leased": leased,
        "gpus": gpus,
        "peak_rss_mib": round(kib / 1024, 1),
        "machine": machine(),
        "seconds": round(time.monotonic() - since.wall, 3),
        "cpu_seconds": round(_cpu_seconds() - since.cpu, 3),
        "work": [one | {"seconds": round(one["seconds"], 3)} for one in _work[since.loops :]],
        "settings": dict(_settings),
    }


def record_path(log: str | Path) -> Path | None:
    """Path of the record of the job with this log; None for a log outside ``results/RUN/logs``."""
    parts = list(Path(log).parts)
    for place in range(2, len(parts) - 1):
        if parts[place - 2] == "results" and parts[place] == "logs":
            parts[place] = "benchmarks"
            return Path(*parts).with_suffix(".json")
    return None


def times_path(log: str | None) -> Path | None:
    """Path, beside the job's record, for the times of a training's rows; None as in :func:`record_path`."""
    path = record_path(log) if log else None
    return path and path.with_suffix(".csv")


def write_job_record(stage: str, log: str | None, since: Begin) -> None:
    """Write the record of a successful job, if its log belongs to a run."""
    path = record_path(log) if log else None
    if path is not None:
        write_json(path, job_record(stage, since))
