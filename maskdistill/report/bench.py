"""Mask rules compared on the same images, on the features of each backbone: scores with intervals, pairs, and
what masks cost.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TypedDict

import numpy as np

from maskdistill.config import BenchStage, Config
from maskdistill.evaluation.bootstrap import interval
from maskdistill.evaluation.metrics.registry import Metric, metrics
from maskdistill.evaluation.paired import Difference, Floats, difference
from maskdistill.masks.folders import backbone_of
from maskdistill.report.bench_costs import Cost
from maskdistill.report.scores import Evaluation, ScoreRow
from maskdistill.report.tables import weights_text
from maskdistill.workflow.layout import benched_folders, mask_name


class BenchRecord(TypedDict):
    """A rule's scores of one stage, in the metrics' units, as ``bench.json`` has them.

    Attributes:
        run: name of the run.
        backbone: architecture and weights of the network whose features the masks are made of.
        rule: folder of the masks: name of the mask rule, and of the backbone where it is a further one.
        rounds: of self-training behind the detector; 0 for masks.
        stage: what is scored.
        seeds: that the mean is over.
        mean, std: by metric; the sample standard deviation lacks where there is one seed.
        intervals: 95 %, by metric, over resampled images of all seeds.
    """

    run: str
    backbone: str
    rule: str
    rounds: int
    stage: str
    seeds: list[int]
    mean: dict[str, float]
    std: dict[str, float]
    intervals: dict[str, list[float]]


class PairRecord(TypedDict):
    """What a first rule's score is above a second's: :class:`~maskdistill.evaluation.paired.Difference`.

    Each is named with its rounds of self-training.
    """

    stage: str
    metric: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    above: float
    resamples: int


def columns(stage: str) -> dict[str, Metric]:
    """The metrics of a stage that are shown."""
    return metrics("bench", stage)


def rule_name(row: ScoreRow, config: Config) -> str:
    """The rule that made the masks behind a row, and the backbone where it is a further one, as the folder is
    called.
    """
    return row.baseline or mask_name(config.masks)


def backbone_text(rule: str, config: Config) -> str:
    """Architecture and weights of the network behind a folder of masks."""
    name = backbone_of(rule)
    network = config.bench.backbones[name] if name else config.backbone
    return f"{network.arch}, {weights_text(config, network)}"


def in_order(rows: Sequence[ScoreRow], config: Config) -> list[ScoreRow]:
    """Rows by stage as the section has them, then by backbone and rule, the run's own first, then by
    rounds.
    """
    rules = benched_folders(config)
    stages = list[str](config.bench.stages)

    def place(row: ScoreRow) -> tuple[int, int, int]:
        return stages.index(row.stage), rules.index(rule_name(row, config)), row.detector_round

    return sorted(rows, key=place)


def labelled(rule: str, rounds: int) -> str:
    """A rule and its rounds of self-training: ``tokencut`` or ``tokencut, rounds: 3``."""
    return f"{rule}, rounds: {rounds}" if rounds else rule


def records(rows: Sequence[ScoreRow], config: Config) -> list[BenchRecord]:
    """The rows in numbers."""
    return [
        {
            "run": config.run,
            "backbone": backbone_text(rule_name(row, config), config),
            "rule": rule_name(row, config),
            "rounds": row.detector_round,
            "stage": row.stage,
            "seeds": row.seeds,
            "mean": {name: row.mean[name] for name in columns(row.stage) if name in row.mean},
            "std": {name: row.std[name] for name in columns(row.stage) if name in row.std},
            "intervals": {
                name: list(interval(drawn))
                for name in columns(row.stage)
                if np.isfinite(drawn := np.concatenate([_drawn(run, name) for run in row.runs])).any()
            },
        }
        for row in rows
    ]


def pairs(rows: Sequence[ScoreRow], config: Config) -> list[PairRecord]:
    """Every two rules of a stage, on one backbone or on two, by each metric that both have.

    Both were scored on the same images, and each seed's resamples are the same for all rules.
    """
    return [
        {
            "stage": one.stage,
            "metric": name,
            "first": labelled(rule_name(one, config), one.detector_round),
            "second": labelled(rule_name(other, config), other.detector_round),
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "above": found.above,
            "resamples": found.resamples,
        }
        for one, other in combinations(rows, 2)
        if one.stage == other.stage
        for name in columns(one.stage)
        if (found := _difference(one, other, name)) is not None
    ]


def _difference(one: ScoreRow, other: ScoreRow, name: str) -> Difference | None:
    runs = [
        (first, second)
        for first, second in zip(one.runs, other.runs, strict=True)
        if name in first.scores and name in second.scores
    ]
    first, second = (
        ([run.scores[name] for run in side] for side in zip(*runs, strict=True)) if runs else ([], [])
    )
    return difference(first, second, [(_drawn(a, name), _drawn(b, name)) for a, b in runs])


def _drawn(run: Evaluation, name: str) -> Floats:
    return np.array(run.resampled.get(name, ()), np.float64)


def csv_rows(found: Sequence[BenchRecord]) -> list[dict[str, str | float | None]]:
    """The table for a CSV: a line a rule and stage; of each metric its mean, deviation and interval."""
    return [
        {name: item[name] for name in ("run", "backbone", "rule", "rounds", "stage")}  # type: ignore[literal-required]
        | {"seeds": " ".join(map(str, item["seeds"]))}
        | {
            f"{name}{suffix}": value
            for name in metrics("bench")
            for suffix, value in _numbers(item, name).items()
        }
        for item in found
    ]


def _numbers(item: BenchRecord, name: str) -> dict[str, float | None]:
    low, high = item["intervals"].get(name, (None, None))
    return {"": item["mean"].get(name), "_std": item["std"].get(name), "_low": low, "_high": high}


def cost_rows(costs: Mapping[str, Cost]) -> list[dict[str, str | float]]:
    """The costs for a CSV, to a tenth of a millisecond and a mebibyte."""
    return [
        {
            "what": what,
            "seconds_per_image": round(cost.seconds, 4),
            "cpu_seconds_per_image": round(cost.cpu_seconds, 4),
            "peak_gib": round(cost.gib, 3),
            "images": cost.images,
        }
        for what, cost in costs.items()
    ]


def best(found: Sequence[BenchRecord], stage: BenchStage) -> dict[str, float]:
    """The best mean of each metric of a stage, as a reader sees it: rounded."""
    result: dict[str, float] = {}
    for item, name in _places(found, stage):
        metric = columns(stage)[name]
        if name not in result or metric.worse(result[name], item["mean"][name]):
            result[name] = round(item["mean"][name], metric.digits)
    return result


def _places(found: Sequence[BenchRecord], stage: str) -> Iterator[tuple[BenchRecord, str]]:
    return ((item, name) for item in found if item["stage"] == stage for name in item["mean"])
