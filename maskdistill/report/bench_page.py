"""The page of the bench: its tables and plots as a template shows them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from maskdistill.config import BenchStage, Config
from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.evaluation.stages import STAGES
from maskdistill.masks.folders import backbone_of, rule_of, suffix, suffix_of
from maskdistill.report import figures
from maskdistill.report.bench import (
    BenchRecord,
    PairRecord,
    backbone_text,
    best,
    columns,
    labelled,
    rule_name,
)
from maskdistill.report.bench_costs import Cost
from maskdistill.report.html import Context
from maskdistill.report.scores import ScoreRow
from maskdistill.report.tables import NONE, weights_text
from maskdistill.workflow.layout import benched_folders, mask_name

MOST_COLUMNS = 8
"""Pictures side by side: the photo, a rule each, the ground truth; more go to the next line."""
DRAWN = ("ap", "ar_100", "miou")
TITLES = {"detector": "detectors trained on them", "segmenter": "segmenters trained in the end"}


class Published(NamedTuple):
    """A published value: of which data, method and score, and where it was printed."""

    dataset: str
    method: str
    score: str
    value: float
    source: str


def context(
    config: Config,
    rows: Sequence[ScoreRow],
    found: Sequence[BenchRecord],
    compared: Sequence[PairRecord],
    costs: Mapping[str, Cost],
    published: Sequence[Published],
    pictures: Sequence[Context],
) -> Context:
    """Everything the page shows.

    Args:
        config: of the run.
        rows: its scores.
        found: the same in numbers, then those of other runs.
        compared: pairs of its rules.
        costs: of its masks by rule, and of the features of each backbone.
        published: values from papers.
        pictures: of a few images, each a title and its strips.
    """
    seeds = sorted({seed for row in rows for seed in row.seeds})
    of_seeds = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    stages = config.bench.stages
    return {
        "run": config.run,
        "sections": [
            ("images", "Images"), ("table", "Scores"), ("pairs", "Pairs"), ("published", "Published"),
        ],
        "subtitle": f"{config.backbone.arch}, {weights_text(config)}; {config.clusters.total} clusters, "
        f"τ = {config.pseudo_labels.tau:g}, {of_seeds}.",
        "several": len(seeds) > 1,
        "own": mask_name(config.masks),
        "refined": "" if config.masks.refine == "none" else config.masks.refine,
        "tables": [_table(stage, found, config, costs) for stage in stages],
        "backbones": [(at, backbone_text(at, config)) for at in map(suffix, config.bench.backbones)],
        "features": [
            (suffix_of(name), _cost(cost)) for name, cost in costs.items() if rule_of(name) == "features"
        ],
        "pairs": [_pairs(stage, compared) for stage in stages],
        "published": [item._asdict() | {"value": f"{item.value:.1f}"} for item in published],
        "plots": [
            (figures.variant_bars(f"bench-{name}", bars, f"{title}, %"), title)
            for name, title in ((name, metrics()[name].title) for name in DRAWN)
            if (bars := _bars(rows, name, config))
        ],
        "images": list(pictures),
        "columns": min(MOST_COLUMNS, len(benched_folders(config)) + 2),
    }  # fmt: skip


def _title(stage: BenchStage) -> str:
    return TITLES.get(stage, STAGES[stage].title)


def _table(
    stage: BenchStage, found: Sequence[BenchRecord], config: Config, costs: Mapping[str, Cost]
) -> Context:
    """A stage's rows: names, and cells of score, interval, and whether none is better."""
    leaders = best(found, stage)
    return {
        "stage": stage,
        "title": _title(stage),
        "metrics": [metric.title for metric in columns(stage).values()],
        "costs": stage == "masks",
        "rows": [
            {
                "rule": labelled(item["rule"], item["rounds"]),
                "quiet": item["run"] != config.run,
                "note": _note(item, config),
                "cells": [_cell(item, name, leaders) for name in columns(stage)],
                "cost": _cost(costs.get(item["rule"]) if item["run"] == config.run else None),
            }
            for item in found
            if item["stage"] == stage
        ],
    }


def _note(item: BenchRecord, config: Config) -> str:
    """Where a row is from, unless it is of the run and its own backbone."""
    if item["run"] != config.run:
        return f"{item['run']}: {item['backbone']}"
    return item["backbone"] if backbone_of(item["rule"]) else ""


def _cell(item: BenchRecord, name: str, leaders: Mapping[str, float]) -> Context:
    metric = metrics()[name]
    value = item["mean"].get(name)
    spread = f" ± {metric.text(item['std'][name])}" if name in item["std"] else ""
    bounds = item["intervals"].get(name)
    return {
        "text": metric.text(value, NONE) + spread,
        "interval": f"[{metric.text(bounds[0])}, {metric.text(bounds[1])}]" if bounds else "",
        "best": value is not None and round(value, metric.digits) == leaders[name],
    }


def _cost(cost: Cost | None) -> list[str]:
    """Milliseconds an image by the clock and of the processor, and GiB."""
    if cost is None:
        return [NONE, NONE, NONE]
    return [f"{1000 * cost.seconds:,.1f}", f"{1000 * cost.cpu_seconds:,.1f}", f"{cost.gib:.2f}"]


def _pairs(stage: BenchStage, compared: Sequence[PairRecord]) -> Context:
    """A row for each two rules, a cell for each metric."""
    rows: dict[tuple[str, str], dict[str, PairRecord]] = {}
    for item in compared:
        if item["stage"] == stage:
            rows.setdefault((item["first"], item["second"]), {})[item["metric"]] = item
    return {
        "stage": stage,
        "title": _title(stage),
        "metrics": [metric.title for metric in columns(stage).values()],
        "rows": [
            {
                "first": first,
                "second": second,
                "cells": [_gap(by_metric.get(name)) for name in columns(stage)],
            }
            for (first, second), by_metric in rows.items()
        ],
    }


def _gap(item: PairRecord | None) -> Context:
    if item is None:
        return {"text": NONE, "interval": "", "clear": False}
    digits = metrics()[item["metric"]].digits
    low, high = (f"{item[side]:+.{digits}f}" for side in ("low", "high"))  # type: ignore[literal-required]
    return {
        "text": f"{item['difference']:+.{digits}f}",
        "interval": f"[{low}, {high}]",
        "clear": item["low"] > 0 or item["high"] < 0,
    }


def _bars(rows: Sequence[ScoreRow], metric: str, config: Config) -> dict[str, tuple[str, list[float]]]:
    """A bar a rule and stage that has the score."""
    return {
        f"{labelled(rule_name(row, config), row.detector_round)}: {row.stage}": (row.stage, values)
        for row in rows
        if (values := [run.scores[metric] for run in row.runs if metric in run.scores])
    }
