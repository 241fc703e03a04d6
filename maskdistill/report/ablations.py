"""The paper's ablations as a table: what each step of the method adds [P Table 1, Table S1, §A.3]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from maskdistill.config import Config
from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.evaluation.stages import STAGES
from maskdistill.report import figures
from maskdistill.report.html import Context
from maskdistill.report.scores import ScoreRow
from maskdistill.report.tables import NONE, headings, run_scores, score_text

PAINTED = {"bbox": "boxes", "grabcut": "boxes + GrabCut", "mask": "masks"}


@dataclass(frozen=True)
class Variant:
    """A row of the table: name, scores over seeds, the paper's mIoU on PASCAL VOC if it has one."""

    name: str
    row: ScoreRow
    published: float | None


class VariantRecord(TypedDict):
    """A row in numbers for ``ablations.json``: percent, over seeds and for each seed."""

    name: str
    stage: str
    label_type: str | None
    hard_pixels: float | None
    crf_round: int | None
    published_miou: float | None
    mean: dict[str, float]
    std: dict[str, float]
    per_seed: list[dict[str, float | None]]


def variant(row: ScoreRow, config: Config) -> Variant:
    """Name a row of scores and find its counterpart in the paper.

    The paper's figures are of VOC's validation images; they show which order to expect, not which values.
    """
    if row.stage == "masks":
        return Variant("initial masks", row, 39.0)
    if row.stage == "detector":
        kind = row.label_type or config.pseudo_labels.type
        return Variant(f"detector, {PAINTED[kind]}", row, {"bbox": 31.8, "grabcut": 38.2, "mask": 42.0}[kind])
    sharpened = " + CRF" if row.stage == "segmenter_crf" else ""
    if row.crf_round or sharpened:
        round_ = f", CRF round {row.crf_round}" if row.crf_round else ""
        return Variant(f"segmenter{round_}{sharpened}", row, None)
    share = 1.0 if row.hard_pixels is None else row.hard_pixels
    published = {1.0: 45.5, 0.2: 45.8}.get(share)
    name = "segmenter, all pixels" if share == 1 else f"segmenter, hardest {100 * share:g} % of the pixels"
    return Variant(name, row, published)


def variants(rows: Sequence[ScoreRow], config: Config) -> list[Variant]:
    """Rows in the method's order: masks, detector, segmenter by hard pixels, CRF rounds."""
    types = list(PAINTED)

    def place(row: ScoreRow) -> tuple[float, ...]:
        kind = types.index(row.label_type or config.pseudo_labels.type)
        crf_first = row.stage == "segmenter_crf" or bool(row.crf_round)
        return (
            min(list(STAGES).index(row.stage), 2),
            crf_first,
            row.crf_round or 0,
            row.stage == "segmenter_crf",
            kind,
            -(row.hard_pixels or 0.0),
        )

    return [variant(row, config) for row in sorted(rows, key=place)]


def table(found: Sequence[Variant]) -> list[Context]:
    """Rows of the page's table: name, stage, scores as text, the paper's mIoU."""
    return [
        {
            "name": item.name,
            "stage": item.row.stage,
            "scores": [score_text(item.row, metric) for metric in metrics("table")],
            "published": NONE if item.published is None else f"{item.published:.1f}",
        }
        for item in found
    ]


def records(found: Sequence[Variant]) -> list[VariantRecord]:
    """The table in numbers: a record a row, means, deviations and each seed by itself, in percent."""
    return [
        {
            "name": item.name,
            "stage": item.row.stage,
            "label_type": item.row.label_type,
            "hard_pixels": item.row.hard_pixels,
            "crf_round": item.row.crf_round,
            "published_miou": item.published,
            "mean": {name: item.row.mean[name] for name in metrics() if name in item.row.mean},
            "std": item.row.std,
            "per_seed": [{"seed": run.seed, **run.scores} for run in item.row.runs],
        }
        for item in found
    ]


def context(name: str, config: Config, found: Sequence[Variant], pictures: Sequence[Context]) -> Context:
    """Everything the page shows."""
    seeds = sorted({seed for item in found for seed in item.row.seeds})
    values = {
        item.name: (item.row.stage, [run.scores["miou"] for run in item.row.runs if "miou" in run.scores])
        for item in found
    }
    return {
        "run": name,
        "sections": [("table", "Table"), ("images", "Images"), ("seeds", "Seeds")],
        "subtitle": f"{config.clusters.total} clusters, τ = {config.pseudo_labels.tau:g}, "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}.",
        "metrics": headings(),
        "rows": table(found),
        "several": len(seeds) > 1,
        "plot_miou": figures.variant_bars("variants", values, "mIoU, %"),
        "plot_boundaries": figures.variant_bars(
            "boundaries",
            {
                item.name: (item.row.stage, [run.scores["boundary_iou"] for run in item.row.runs])
                for item in found
                if all("boundary_iou" in run.scores for run in item.row.runs)
            },
            "boundary IoU, %",
        ),
        "seed_rows": [
            {
                "name": item.name,
                "stage": item.row.stage,
                "seed": NONE if run.seed is None else run.seed,
                "scores": run_scores(run),
            }
            for item in found
            for run in item.row.runs
        ],
        "strips": pictures,
        "columns": 5,
    }
