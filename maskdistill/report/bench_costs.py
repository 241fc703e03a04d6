"""What the masks of a rule take, from the records of their jobs (:mod:`maskdistill.runtime.job_record`).

The jobs' loops count alone: starting a program takes longer than most rules take for a shard.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from maskdistill.runtime.files import read_json
from maskdistill.runtime.job_record import Work


class Measured(TypedDict):
    """What of a job's record is read, see :func:`maskdistill.runtime.job_record.job_record`."""

    work: list[Work]
    seconds: float
    cpu_seconds: float
    peak_rss_mib: float


@dataclass(frozen=True)
class Cost:
    """What a stage takes.

    Attributes:
        seconds: an image, by the clock.
        cpu_seconds: an image, of the processor: the jobs' share of the clock, which on a busy machine says
            more of the other programs.
        gib: most resident memory of a job.
        images: that it is the mean of.
    """

    seconds: float
    cpu_seconds: float
    gib: float
    images: int


def read_cost(folder: str | Path, stage: str) -> Cost | None:
    """What a stage's jobs took together; None without records of any image.

    Args:
        folder: ``benchmarks`` of the run.
        stage: folder below it, ``features`` or ``masks/lost-400``.
    """
    return summed(read_json(file) for file in sorted(Path(folder, stage).rglob("*.json")))


def summed(records: Iterable[Measured]) -> Cost | None:
    """The cost of records together; None where none counts an image."""
    images, seconds, cpu, peak = 0, 0.0, 0.0, 0.0
    for record in records:
        done = [one for one in record["work"] if one["unit"] == "img"]
        took = sum(one["seconds"] for one in done)
        images += sum(one["count"] for one in done)
        seconds += took
        cpu += took * record["cpu_seconds"] / max(record["seconds"], 1e-9)
        peak = max(peak, record["peak_rss_mib"])
    return Cost(seconds / images, cpu / images, peak / 1024, images) if images else None
