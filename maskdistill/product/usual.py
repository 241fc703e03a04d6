"""How long jobs will take before any has ended: by this machine's records, or as measured."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from maskdistill.config import Config
from maskdistill.product.costs import SMALL, Sizes, cost_of, sizes_of
from maskdistill.product.records import known_costs

OF_A_SMALL_JOB = 10.0
"""Seconds that are taken for jobs of seconds to minutes, mostly loading of libraries."""


def usual_seconds(config: Config, results: Path, cores: int, gpus: int) -> Callable[[str], float | None]:
    """Name of a rule -> seconds that one of its jobs will take; None where nobody knows.

    Args:
        config: of the run.
        results: its folder; records of jobs there, and in runs beside it, come first.
        cores: that the run may use; a job that was measured elsewhere is taken to use all of them.
        gpus: that it may use; without any, figures of GPUs say nothing.
    """

    @cache
    def sizes() -> Sizes:
        return sizes_of(config)

    known = known_costs(config, sizes, results)

    def of_rule(rule: str) -> float | None:
        cost = known(rule)
        if cost is not None and cost.wall is not None:
            return cost.wall
        if rule in SMALL:
            return OF_A_SMALL_JOB
        cost = cost_of(rule, config, sizes())
        if cost is None or (cost.device == "gpu" and not gpus):
            return None
        return cost.seconds / (max(1, cores) if cost.device == "cpu" else 1)

    return of_rule
