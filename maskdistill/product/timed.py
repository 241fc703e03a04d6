"""What a job will take by what ``maskdistill init`` timed on this machine, where none has ended yet."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from maskdistill.config import Config
from maskdistill.product.costs import SMALL, Cost, Sizes, cost_of
from maskdistill.product.demands import DEMANDS
from maskdistill.product.speeds import LIGHT, LOOKED_AT_AGAIN, Speeds, speedup, training_seconds
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.job_record import machine

FILE = "benchmarks/init.json"
"""Below the folder of the run."""
SOURCE = "timed by `maskdistill init` on this machine"
MOST_THREADS = 8
"""Of a job that is no training."""
BY_SHARD = {
    "features": "features",
    "embeddings": "embedding",
    "candidates": "candidates",
    "predictions": "prediction",
}
"""Rule -> the figure of :class:`Speeds` for one of what its jobs go through."""
NETWORKS = frozenset({*BY_SHARD, "detector", "segmenter"})
"""Rules whose jobs compute on a GPU where there is one."""
LOADING = frozenset({"report", "thumbnails"})
"""Rules whose jobs do little more than to load all libraries."""


class Timed(TypedDict):
    """:data:`FILE`.

    Attributes:
        machine: as in records of jobs.
        cores, gpus: that ``init`` found.
        speeds: fields of :class:`Speeds`.
        settings: rule -> the settings that its time depends on, as they were timed.
    """

    machine: str
    cores: int
    gpus: int
    speeds: dict[str, float]
    settings: dict[str, dict[str, Any]]


def remember(config: Config, speeds: Speeds, cores: int, gpus: int, results: Path) -> None:
    """Keep what was timed for a configuration; a folder that cannot be written to costs the estimate only."""
    settings = {rule: dict(DEMANDS[rule].settings(config)) for rule in sorted(NETWORKS)}
    timed = Timed(machine=machine(), cores=cores, gpus=gpus, speeds=asdict(speeds), settings=settings)
    with suppress(OSError):
        write_json(results / FILE, timed)


def timed_costs(
    config: Config, sizes: Callable[[], Sizes], results: Path, gpus: int
) -> Callable[[str], Cost | None]:
    """Rule -> what one of its jobs takes; None where it was not timed, or with other settings.

    Args:
        config: of the run.
        sizes: of the run, asked for where something was timed.
        results: folder of the run.
        gpus: that there are now.
    """
    with suppress(MaskDistillError, KeyError, TypeError):  # an estimate does not fail for want of a file
        timed: Timed = read_json(results / FILE)
        speeds = Speeds(**timed["speeds"])
        if timed["machine"] == machine() and timed["gpus"] == gpus:
            return partial(_cost, config, sizes, timed, speeds)
    return lambda rule: None


def _cost(config: Config, sizes: Callable[[], Sizes], timed: Timed, speeds: Speeds, rule: str) -> Cost | None:
    rule = rule.removeprefix("oracle_")
    wanted = timed["settings"].get(rule)
    if wanted is not None and wanted != DEMANDS[rule].settings(config):
        return None
    for seconds, threads in _seconds(rule, config, sizes(), speeds, timed):
        on_gpu = bool(timed["gpus"]) and rule in NETWORKS
        return Cost("gpu" if on_gpu else "cpu", seconds * (1 if on_gpu else threads), SOURCE, seconds)
    return None


def _seconds(
    rule: str, config: Config, sizes: Sizes, speeds: Speeds, timed: Timed
) -> Iterator[tuple[float, int]]:
    """Seconds of a job on the clock, and how many cores it keeps busy; nothing for other rules."""
    cores, gpus = timed["cores"], timed["gpus"]
    busy = min(MOST_THREADS, cores)
    shared = 1 if gpus else max(1, min(MOST_THREADS, cores // min(sizes.shard_jobs, cores)))
    demand, light = DEMANDS.get(rule), LIGHT * speeds.start
    count = demand.count(config, sizes) if demand and demand.count else 0.0
    if rule in BY_SHARD:
        yield speeds.start + count * getattr(speeds, BY_SHARD[rule]) / speedup(shared), shared
    elif rule in ("detector", "segmenter"):
        yield training_seconds(config, rule, count, speeds, cores), gpus or min(16, cores)
    elif rule == "manifest":
        yield light + count * speeds.look / busy, busy
    elif rule == "consistency":
        seen = min(sizes.main, LOOKED_AT_AGAIN) * 2 * speeds.features
        yield speeds.start + seen / speedup(busy), busy
    elif rule == "pseudo_labels":
        yield light + count * speeds.label, 1
    elif rule in ("masks", "clusters") and (cost := cost_of(rule, config, sizes)):
        yield light + cost.seconds / busy, busy
    elif rule in SMALL:
        yield (speeds.start if rule in LOADING else light), 1
