"""What a job will take, by records of such jobs on this kind of machine, here and in other runs; else by what
``maskdistill init`` timed.

A record (:mod:`maskdistill.runtime.job_record`) says what its job went through, images or steps, in how many
seconds. It counts for a job of a rule whose settings are the same where its time depends on them; what
remains is in proportion.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from maskdistill.config import Config
from maskdistill.product.costs import Cost, Sizes
from maskdistill.product.demands import DEMANDS, Demand
from maskdistill.product.timed import timed_costs
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json
from maskdistill.runtime.job_record import machine
from maskdistill.runtime.leases import visible_gpus

MOST_READ = 100
"""Records of one rule in one run; of more, as many spread over all."""
UNITS = {"img": "images", "step": "steps", "mask": "masks"}


@dataclass(frozen=True)
class Known:
    """What the jobs of a rule took in a run, means of a job where nothing else is said.

    Attributes:
        run: folder of the run.
        seconds: on the clock, of a job.
        cpu_seconds: of a job's processes.
        gpus: that a job computed on.
        loop: seconds of a job within its loop over ``unit``; 0 where it is not in proportion to anything.
        count: what all these jobs went through.
        jobs: how many.
        unit: ``img``, ``step`` or ``mask``; empty where the time is not in proportion.
    """

    run: Path
    seconds: float
    cpu_seconds: float
    gpus: float
    loop: float
    count: int
    jobs: int
    unit: str

    def wall(self, count: float) -> float:
        """Seconds of a job that goes through ``count`` of the unit."""
        return self.seconds - self.loop + (self.loop * self.jobs / self.count * count if self.unit else 0.0)

    def cost(self, count: float) -> Cost:
        """The same as core-seconds or GPU-seconds, and where it is from."""
        wall = self.wall(count)
        device, share = (
            ("gpu", self.gpus) if self.gpus else ("cpu", self.cpu_seconds / max(self.seconds, 1e-9))
        )
        of = (
            f"{self.count:,} {UNITS[self.unit]}"
            if self.unit
            else f"{self.jobs:,} job{'s' * (self.jobs != 1)}"
        )
        return Cost(device, wall * share, f"from {self.run}, {of}: {self.seconds:.3g} s a job there", wall)


def known_costs(config: Config, sizes: Callable[[], Sizes], results: Path) -> Callable[[str], Cost | None]:
    """Rule -> what one of its jobs takes here; None where this kind of machine told nothing.

    Args:
        config: of the run.
        sizes: of the run, asked for where a record is found.
        results: folder of the run, which need not be there; runs beside it are looked at, too.
    """
    here, gpus = machine(), frozenset(visible_gpus())
    timed = timed_costs(config, sizes, results, len(gpus))
    own = [results] if results.is_dir() else []
    others = [path.parent for path in sorted(results.parent.glob("*/benchmarks")) if path.parent != results]

    def fits(record: Mapping[str, Any], demand: Demand) -> bool:
        used = {gpu["uuid"] for gpu in record["gpus"]}
        wanted = demand.settings(config)
        same = all(record["settings"].get(name) == value for name, value in wanted.items())
        return record["machine"] == here and used <= gpus and same

    @cache
    def of_rule(rule: str) -> Cost | None:
        name = rule.removeprefix("oracle_")
        name = name if name in DEMANDS else rule
        demand = DEMANDS.get(name, Demand())
        for runs in (own, others):
            found = [known for run in runs if (known := _sum(run, demand, _fitting(run, name, demand, fits)))]
            if found:
                best = max(found, key=lambda known: (known.count, known.jobs))
                return best.cost(demand.count(config, sizes()) if demand.count else 0.0)
        return timed(rule)

    return of_rule


def _fitting(
    run: Path, rule: str, demand: Demand, fits: Callable[[Mapping[str, Any], Demand], bool]
) -> list[Mapping[str, Any]]:
    folder = run / "benchmarks"
    files = [
        file
        for pattern in demand.files or (f"{rule}.json", f"{rule}/**/*.json")
        for file in folder.glob(pattern)
    ]
    files.sort()
    return [record for record in _records(files[:: -(-len(files) // MOST_READ) or 1]) if fits(record, demand)]


def _records(files: list[Path]) -> Iterator[Mapping[str, Any]]:
    """Those that are sound and of a version that counts work."""
    for file in files:
        try:
            record = read_json(file)
        except MaskDistillError:  # an estimate does not fail for want of one record
            continue
        if {"machine", "seconds", "cpu_seconds", "gpus", "work", "settings"} <= record.keys():
            yield record


def _sum(run: Path, demand: Demand, records: list[Mapping[str, Any]]) -> Known | None:
    """Of records together; None without any, or where none went through the unit."""
    done = [one for record in records for one in record["work"] if one["unit"] == demand.unit]
    count, jobs = sum(one["count"] for one in done), len(records)
    if not jobs or (demand.unit and not count):
        return None

    def mean(name: str) -> float:
        return sum(float(record[name]) for record in records) / jobs

    loop = sum(one["seconds"] for one in done) / jobs
    gpus = sum(len(record["gpus"]) for record in records) / jobs
    return Known(run, mean("seconds"), mean("cpu_seconds"), gpus, loop, count, jobs, demand.unit)
