"""The report's score tables: rows of scores and settings become text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from maskdistill.config import BackboneConfig, Config
from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.evaluation.stages import STAGES
from maskdistill.report.html import Context
from maskdistill.report.scores import Evaluation, ScoreRow

NONE = "—"
PROTOCOL = {
    "weights": "weights",
    "center": "center",
    "short_side": "short side",
    "topk": "top-k",
    "num_clusters": "K",
    "rounds": "rounds",
    "tau": "τ",
    "hard_pixels": "hard pixels",
    "seeds": "seeds",
}


def weights_text(config: Config, network: BackboneConfig | None = None) -> str:
    """How a backbone, by default the run's, got its weights, in a few words, without folders."""
    weights = (network or config.backbone).weights
    if weights == "pretrain":
        exchange = (
            f", {config.pretrain.exchange_share:.0%} exchanged scenes"
            if config.pretrain.exchange_share
            else ""
        )
        return f"own images: {config.pretrain.objective}, {config.pretrain.steps} steps{exchange}"
    return "random (untrained)" if weights == "random" else Path(weights).name


def score_text(row: ScoreRow, metric: str) -> str:
    """``45.8`` or ``45.8 ± 0.4``; a dash where the metric is not scored for the stage."""
    if metric not in row.mean:
        return NONE
    text = metrics()[metric].text
    spread = f" ± {text(row.std[metric])}" if metric in row.std else ""
    return f"{text(row.mean[metric])}{spread}"


def interval_text(row: ScoreRow, metric: str) -> str:
    """Bootstrap interval of a single seed, ``[44.1, 47.3]``; empty for several seeds or without one."""
    if len(row.runs) != 1 or metric not in row.runs[0].intervals:
        return ""
    return _interval(row.runs[0], metric)


def protocol(row: ScoreRow, config: Config) -> dict[str, str]:
    """The settings a score was made with, as text by the names in :data:`PROTOCOL`."""
    tau = f"{config.pseudo_labels.tau if row.tau is None else row.tau:g}"
    painted = "" if row.label_type in (None, "mask") else f", {row.label_type}"
    by_paper = not row.baseline and (config.masks.by_paper or not row.main)
    return {
        "weights": weights_text(config),
        "center": NONE if not by_paper else "on" if config.masks.affinity.center else "off",
        "short_side": str(config.features.short_side),
        "topk": NONE if not by_paper else f"{config.masks.topk if row.topk is None else row.topk:g}",
        "num_clusters": str(row.num_clusters or config.clusters.total),
        "rounds": NONE if row.stage == "masks" else str(row.detector_round),
        "tau": NONE if row.stage == "masks" else tau + painted,
        "hard_pixels": NONE if row.hard_pixels is None else f"{row.hard_pixels:g}",
        "seeds": ", ".join(map(str, row.seeds)) or NONE,
    }


def row_name(row: ScoreRow) -> str:
    """A row's name: ``detector``, ``masks: lost-100``, ``segmenter + CRF, round 1``."""
    if row.baseline:
        return f"masks: {row.baseline}"
    name = STAGES[row.stage].title if row.stage in STAGES else row.stage
    if row.stage == "detector" and row.detector_round:
        name += f", round {row.detector_round}"
    return name + (f", round {row.crf_round}" if row.crf_round else "")


def table_row(row: ScoreRow, config: Config) -> Context:
    """One row of a score table: label, scores with intervals, protocol."""
    scores = [
        {"text": score_text(row, name), "interval": interval_text(row, name)} for name in metrics("table")
    ]
    stage = "baseline" if row.baseline else row.stage
    return {
        "label": row_name(row),
        "stage": stage,
        "scores": scores,
        "protocol": list(protocol(row, config).values()),
    }


def detection_table(rows: Sequence[ScoreRow]) -> Context:
    """AP and AR of what masks and detectors find, whatever its category; without rows where nothing is
    scored.
    """
    shown = metrics("detection")
    scored = [row for row in rows if "ap" in row.mean]
    return {
        "columns": [metric.title for metric in shown.values()],
        "rows": [
            {
                "label": row_name(row),
                "stage": "baseline" if row.baseline else row.stage,
                "scores": [score_text(row, name) for name in shown],
            }
            for row in scored
        ],
    }


def baseline_row(name: str, scores: Mapping[str, float]) -> Context:
    """A baseline's row: it has no backbone, so K and the seed are what is left of the protocol."""
    shown = metrics("table").items()
    texts = [{"text": metric.text(scores.get(key), NONE), "interval": ""} for key, metric in shown]
    known = {"num_clusters": scores.get("num_clusters"), "seeds": scores.get("seed")}
    cells = [NONE if known.get(column) is None else f"{known[column]:g}" for column in PROTOCOL]
    return {"label": name, "stage": "baseline", "scores": texts, "protocol": cells}


def run_scores(run: Evaluation) -> list[str]:
    """One seed's scores in the columns of the table."""
    return [metric.text(run.scores.get(name), NONE) for name, metric in metrics("table").items()]


def headings() -> list[str]:
    """Those of the columns with scores."""
    return [metric.title for metric in metrics("table").values()]


def _interval(run: Evaluation, metric: str) -> str:
    low, high = (metrics()[metric].text(bound) for bound in run.intervals[metric])
    return f"[{low}, {high}]"


def seed_rows(rows: Sequence[ScoreRow]) -> list[Context]:
    """Each seed by itself, with its interval of the mIoU."""
    return [
        {
            "stage": row.stage,
            "label": row_name(row),
            "seed": NONE if run.seed is None else run.seed,
            "scores": run_scores(run),
            "interval": _interval(run, "miou") if "miou" in run.intervals else NONE,
        }
        for row in rows
        for run in row.runs
    ]
