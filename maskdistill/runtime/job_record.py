"""What a job took: its devices, the peak of their memory and of its own, beside Snakemake's benchmark of the job.

Snakemake measures seconds and resident memory, no GPU. The record of ``results/RUN/logs/STAGE/JOB.log`` is
``results/RUN/benchmarks/STAGE/JOB.json``; other logs have none.
"""

import os
import resource
import sys
from pathlib import Path
from typing import Any

from maskdistill.runtime.files import write_json
from maskdistill.runtime.leases import HELD

_of_children: list[dict[str, Any]] = []


def gpu_peaks() -> list[dict[str, Any]]:
    """The GPUs on which this process has computed with torch: ``uuid``, ``name``, and the most memory it held there.

    ``peak_allocated_mib`` is what tensors took, ``peak_reserved_mib`` what torch kept from the device for them.
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
    """Count in what a child process reported of itself with :func:`gpu_peaks`."""
    _of_children.extend(peaks)


def job_record(stage: str) -> dict[str, Any]:
    """The record of this process and its children.

    Returns:
        ``stage``; ``device``, ``cuda`` or ``cpu``; ``leased``, the UUIDs that the job held; ``gpus``, those that it
        computed on, as of :func:`gpu_peaks` (FAISS's own memory is not seen); ``peak_rss_mib``, the largest of its
        processes.
    """
    gpus = sorted(gpu_peaks() + _of_children, key=lambda gpu: str(gpu["uuid"]))
    leased = [uuid for uuid in os.environ.get(HELD, "").split(",") if uuid]
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    kib = largest / 1024 if sys.platform == "darwin" else largest
    return {
        "stage": stage,
        "device": "cuda" if gpus or leased else "cpu",
        "leased": leased,
        "gpus": gpus,
        "peak_rss_mib": round(kib / 1024, 1),
    }


def record_path(log: str | Path) -> Path | None:
    """Where the record of the job with this log goes; None for a log outside of ``results/RUN/logs``."""
    parts = list(Path(log).parts)
    for place in range(2, len(parts) - 1):
        if parts[place - 2] == "results" and parts[place] == "logs":
            parts[place] = "benchmarks"
            return Path(*parts).with_suffix(".json")
    return None


def write_job_record(stage: str, log: str | None) -> None:
    """Write the record of a job that has ended well, where its log stands in a run."""
    path = record_path(log) if log else None
    if path is not None:
        write_json(path, job_record(stage))
