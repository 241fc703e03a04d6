"""How long a run's jobs will take, before any has ended: as its folder remembers, or as somebody measured."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from statistics import median

from maskdistill.config import Config
from maskdistill.product.costs import SMALL, Sizes, cost_of, sizes_of

OF_A_SMALL_JOB = 10.0
"""Seconds that are taken for jobs of seconds to minutes, mostly loading of libraries."""


def remembered(results: Path, rule: str) -> float | None:
    """Median seconds of a rule's jobs by the benchmarks that Snakemake left in a folder; None without any."""
    folder = results / "benchmarks"
    found = []
    for file in [folder / f"{rule}.tsv", *sorted((folder / rule).rglob("*.tsv"))]:
        with suppress(OSError, ValueError, IndexError):
            found.append(float(file.read_text(encoding="utf-8").splitlines()[1].split("\t")[0]))
    return median(found) if found else None


def usual_seconds(config: Config, results: Path, cores: int, gpus: int) -> Callable[[str], float | None]:
    """Name of a rule -> seconds that one of its jobs will take; None where nobody knows.

    Args:
        config: of the run.
        results: its folder; what an earlier run left there comes first.
        cores: that the run may use; a measured job is taken to use all of them.
        gpus: that it may use; without any, figures of GPUs say nothing.
    """

    @cache
    def sizes() -> Sizes:
        return sizes_of(config)

    def of_rule(rule: str) -> float | None:
        if (known := remembered(results, rule)) is not None:
            return known
        if rule in SMALL:
            return OF_A_SMALL_JOB
        cost = cost_of(rule, config, sizes())
        if cost is None or (cost.device == "gpu" and not gpus):
            return None
        return cost.seconds / (max(1, cores) if cost.device == "cpu" else 1)

    return of_rule
