"""What each stage reaches with perfect input, beside its own result: which stage loses what."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from maskdistill.config import Config, OracleCase
from maskdistill.evaluation.metrics.registry import Metric, metrics
from maskdistill.report import figures
from maskdistill.report.html import Context
from maskdistill.report.scores import Evaluation, ScoreRow, score_rows
from maskdistill.report.tables import NONE, score_text

STAGES = ("masks", "detector", "segmenter")
DRAWN = ("miou", "ap75")
OWN = "as it is"
NAMES: dict[OracleCase, str] = {
    "masks": "perfect masks",
    "objects": "perfect masks of all objects",
    "categories": "perfect categories",
    "annotations": "perfect masks and categories of all objects",
    "labels": "perfect label maps",
}
MEANINGS: dict[OracleCase, str] = {
    "masks": "each found mask is the exact mask of the object that it overlaps best; their categories are "
    "discovered",
    "objects": "the exact masks of all objects; their categories are discovered",
    "categories": "each found mask has the true category of the object that it overlaps best",
    "annotations": "the exact masks and true categories of all objects are what the detector learns",
    "labels": "the segmenter learns the true label maps",
}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        case: what is perfect; None for the run as it is.
        stages: scores over seeds by stage, of those behind what is perfect.
        left_out: training images without the truth that the case needs.
    """

    case: OracleCase | None
    stages: dict[str, ScoreRow]
    left_out: int

    @property
    def name(self) -> str:
        """What is perfect, as the table says it."""
        return OWN if self.case is None else NAMES[self.case]

    def mean(self, stage: str, metric: str) -> float | None:
        """A score in percent, averaged over seeds; None where it is not defined."""
        return self.stages[stage].mean.get(metric) if stage in self.stages else None


class OracleStage(TypedDict):
    """A stage's scores over seeds, what they gain on the run as it is, and each seed by itself."""

    mean: dict[str, float]
    std: dict[str, float]
    gain: dict[str, float]
    per_seed: list[dict[str, float | None]]


class OracleRecord(TypedDict):
    """A row of the table in numbers: what is perfect, images left out, and scores by stage."""

    case: OracleCase | None
    name: str
    left_out: int
    stages: dict[str, OracleStage]


def rows(evaluations: Sequence[Evaluation], left_out: Mapping[str, int], config: Config) -> list[Row]:
    """The run as it is, then the cases in the configuration's order.

    Args:
        evaluations: of all cases, which their provenance names, and of the run itself.
        left_out: training images without the truth that a case needs, by case.
        config: of the run.
    """
    found = []
    for case in (None, *config.oracle.cases):
        own = [
            item
            for item in evaluations
            if (item.provenance.get("oracle") if item.provenance else None) == case
        ]
        stages = {row.stage: row for row in score_rows(own, config)}
        found.append(Row(case, stages, left_out.get(case, 0) if case else 0))
    return found


def gain(row: Row, own: Row, stage: str, metric: str) -> float | None:
    """A row's gain over the run, in points; None without both scores, and for the run itself."""
    here, there = row.mean(stage, metric), own.mean(stage, metric)
    return None if row.case is None or here is None or there is None else here - there


def losses(found: Sequence[Row]) -> dict[str, float]:
    """Points of the segmenter's mIoU lost at each stage; perfect label maps would have 100.

    ``masks and categories`` is what perfect annotations would add, ``detector`` what perfect label maps would
    add to that, ``segmenter`` what is missing even then. Empty where one of these cases was not made.
    """
    reached = {row.case: row.mean("segmenter", "miou") for row in found}
    own, annotated, labelled = (reached.get(case) for case in (None, "annotations", "labels"))
    if own is None or annotated is None or labelled is None:
        return {}
    return {
        "masks and categories": annotated - own,
        "detector": labelled - annotated,
        "segmenter": 100 - labelled,
    }


def verdict(found: Sequence[Row]) -> list[str]:
    """The losses in sentences, the largest one first named; empty without them."""
    own, lost = found[0], losses(found)
    if not lost:
        return []
    worst = max(lost, key=lambda stage: lost[stage])
    parts = "; ".join(f"{stage} {points:.1f}" for stage, points in lost.items())
    reached = own.mean("segmenter", "miou")
    said = [
        f"The segmenter reaches a mIoU of {reached:.1f}. The missing points are lost here: {parts}. "
        f"Most are lost by: {worst}."
    ]
    alone = [
        f"{row.name} {points:+.1f}"
        for row in found
        if row.case in ("masks", "objects", "categories")
        and (points := gain(row, own, "segmenter", "miou")) is not None
    ]
    return [*said, *([f"One at a time they would add: {'; '.join(alone)}."] if alone else [])]


def table(found: Sequence[Row]) -> list[Context]:
    """Rows of the page: name, meaning, cells of score and difference as text, images left out."""
    return [
        {
            "name": row.name,
            "meaning": "" if row.case is None else MEANINGS[row.case],
            "cells": [_cell(row, found[0], stage, metric) for stage, metric in _places()],
            "left_out": NONE if row.case is None else row.left_out,
        }
        for row in found
    ]


def columns(stage: str) -> dict[str, Metric]:
    """Scores of the table for a stage."""
    return metrics("oracle", stage)


def _places() -> Iterator[tuple[str, str]]:
    return ((stage, metric) for stage in STAGES for metric in columns(stage))


def _cell(row: Row, own: Row, stage: str, metric: str) -> dict[str, str]:
    points = gain(row, own, stage, metric)
    text = score_text(row.stages[stage], metric) if stage in row.stages else NONE
    return {"text": text, "gain": "" if points is None else f"{points:+.1f}"}


def records(found: Sequence[Row]) -> list[OracleRecord]:
    """The table in numbers, by row: means, deviations and gains, and each seed."""
    return [
        {
            "case": row.case,
            "name": row.name,
            "left_out": row.left_out,
            "stages": {
                stage: {
                    "mean": {name: scores.mean[name] for name in columns(stage) if name in scores.mean},
                    "std": {name: scores.std[name] for name in columns(stage) if name in scores.std},
                    "gain": {
                        name: points
                        for name in columns(stage)
                        if (points := gain(row, found[0], stage, name)) is not None
                    },
                    "per_seed": [
                        {"seed": run.seed}
                        | {name: run.scores[name] for name in columns(stage) if name in run.scores}
                        for run in scores.runs
                    ],
                }
                for stage, scores in row.stages.items()
            },
        }
        for row in found
    ]


def csv_rows(found: Sequence[Row]) -> list[dict[str, str | float | None]]:
    """The table for a CSV: a line a row, columns ``STAGE_SCORE`` and ``STAGE_SCORE_gain``."""
    return [
        {
            "case": row.case or OWN,
            "left_out": row.left_out,
            **{f"{stage}_{metric}": row.mean(stage, metric) for stage, metric in _places()},
            **{f"{stage}_{metric}_gain": gain(row, found[0], stage, metric) for stage, metric in _places()},
        }
        for row in found
    ]


def context(name: str, config: Config, found: Sequence[Row]) -> Context:
    """Everything the page shows."""
    seeds = sorted({seed for row in found for scores in row.stages.values() for seed in scores.seeds})
    return {
        "run": name,
        "sections": [("table", "Table")],
        "subtitle": f"{config.clusters.total} clusters, τ = {config.pseudo_labels.tau:g}, "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}.",
        "groups": {stage: [metric.title for metric in columns(stage).values()] for stage in STAGES},
        "rows": table(found),
        "several": len(seeds) > 1,
        "verdict": verdict(found),
        "plots": [
            (figures.variant_bars(f"oracle-{name}", bars, f"{title}, %"), title)
            for name, title in ((name, metrics()[name].title) for name in DRAWN)
            if (bars := _bars(found, name))
        ],
        "columns": 1,
    }


def _bars(found: Sequence[Row], metric: str) -> dict[str, tuple[str, list[float]]]:
    """A bar a row and stage that has the score."""
    return {
        f"{row.name}: {stage}": (stage, values)
        for row in found
        for stage in STAGES
        if stage in row.stages
        and (values := [run.scores[metric] for run in row.stages[stage].runs if metric in run.scores])
    }
