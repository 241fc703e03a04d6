"""The report's page and summary: numbers become text, tables and one self-contained HTML file."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from maskdistill.config import Config
from maskdistill.report.collect import METRICS, STAGES, RuleTime, ScoreRow
from maskdistill.report.montage import Rgb

TEMPLATE = Path(__file__).with_name("template.html.j2")
NONE = "–"
HEADLINE = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel acc.",
    "ap50": "AP50",
    "ap": "AP",
    "corloc": "CorLoc",
    "purity": "purity",
}
PROTOCOL = {
    "weights": "weights",
    "center": "center",
    "short_side": "short side",
    "topk": "top-k",
    "num_clusters": "K",
    "tau": "τ",
    "seeds": "seeds",
}


@dataclass(frozen=True)
class Picture:
    """One image of the page: a data-URI with its size in pixels, texts and the caption's two parts."""

    uri: str
    width: int
    height: int
    alt: str
    title: str = ""
    note: str = ""


def picture(pixels: Rgb, alt: str, title: str = "", note: str = "", quality: int = 82) -> Picture:
    """Encode (H, W, 3) uint8 RGB as a JPEG data-URI without chroma subsampling (thin coloured lines stay crisp)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, subsampling=0, optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    return Picture(f"data:image/jpeg;base64,{text}", width, height, alt, title, note)


def duration(seconds: float) -> str:
    """``8.2 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def weights_text(config: Config) -> str:
    """How the backbone got its weights, in a few words, without folders."""
    weights = config.backbone.weights
    if weights == "pretrain":
        return f"own images: {config.pretrain.objective}, {config.pretrain.views}, {config.pretrain.steps} steps"
    return "random (untrained)" if weights == "random" else Path(weights).name


def score_text(row: ScoreRow, metric: str) -> str:
    """``45.8`` or ``45.8 ± 0.4``; a dash where the metric is not scored for the stage."""
    if metric not in row.mean:
        return NONE
    spread = f" ± {row.std[metric]:.1f}" if metric in row.std else ""
    return f"{row.mean[metric]:.1f}{spread}"


def interval_text(row: ScoreRow, metric: str) -> str:
    """Bootstrap interval of a single seed, ``[44.1, 47.3]``; empty for several seeds or without one."""
    if len(row.runs) != 1 or metric not in row.runs[0].intervals:
        return ""
    low, high = row.runs[0].intervals[metric]
    return f"[{low:.1f}, {high:.1f}]"


def protocol(row: ScoreRow, config: Config) -> dict[str, str]:
    """The settings a score was made with, as text by the names in :data:`PROTOCOL`."""
    return {
        "weights": weights_text(config),
        "center": "on" if config.masks.affinity.center else "off",
        "short_side": str(config.features.short_side),
        "topk": f"{config.masks.topk if row.topk is None else row.topk:g}",
        "num_clusters": str(row.num_clusters or config.clusters.num_clusters),
        "tau": NONE if row.stage == "masks" else f"{config.pseudo_labels.tau if row.tau is None else row.tau:g}",
        "seeds": ", ".join(map(str, row.seeds)) or NONE,
    }


def table_row(row: ScoreRow, config: Config) -> dict[str, Any]:
    """One row of a score table: label, scores with intervals, protocol."""
    scores = [{"text": score_text(row, name), "interval": interval_text(row, name)} for name in HEADLINE]
    return {"label": row.stage, "stage": row.stage, "scores": scores, "protocol": list(protocol(row, config).values())}


def baseline_row(name: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    """A baseline's row: it has no backbone, so K and the seed are what is left of the protocol."""
    texts = [{"text": f"{scores[metric]:.1f}" if metric in scores else NONE, "interval": ""} for metric in HEADLINE]
    known = {"num_clusters": scores.get("num_clusters"), "seeds": scores.get("seed")}
    cells = [NONE if known.get(column) is None else f"{known[column]:g}" for column in PROTOCOL]
    return {"label": name, "stage": "baseline", "scores": texts, "protocol": cells}


def seed_rows(rows: Sequence[ScoreRow]) -> list[dict[str, Any]]:
    """Each seed by itself, with its interval of the mIoU."""
    return [
        {
            "stage": row.stage,
            "seed": NONE if run.seed is None else run.seed,
            "scores": [f"{run.scores[name]:.1f}" if name in run.scores else NONE for name in HEADLINE],
            "interval": "[{:.1f}, {:.1f}]".format(*run.intervals["miou"]) if "miou" in run.intervals else NONE,
        }
        for row in rows
        for run in row.runs
    ]


def flow(rows: Sequence[ScoreRow]) -> list[dict[str, str]]:
    """The headline: mIoU of each stage and the step from the stage before."""
    tiles: list[dict[str, str]] = []
    before: tuple[str, float] | None = None
    for row in rows:
        if row.stage not in STAGES or "miou" not in row.mean:
            continue
        value = row.mean["miou"]
        spread = f"± {row.std['miou']:.1f}" if "miou" in row.std else interval_text(row, "miou")
        step = "" if before is None else f"{value - before[1]:+.1f} on {before[0]}".replace("-", "−", 1)
        tiles.append({"stage": row.stage, "value": f"{value:.1f}", "spread": spread, "step": step})
        before = (row.stage, value)
    return tiles


def class_table(rows: Sequence[ScoreRow]) -> tuple[list[str], dict[str, list[float]]]:
    """Class names in the order of the first evaluation, and each stage's mean IoU a class (NaN where there is none)."""
    scored = [row for row in rows if row.stage in STAGES and row.iou]
    names = list(dict.fromkeys(name for row in scored for name in row.iou))
    return names, {row.stage: [row.iou.get(name, float("nan")) for name in names] for row in scored}


def summary(
    config: Config,
    images: Mapping[str, int],
    rows: Sequence[ScoreRow],
    baselines: Mapping[str, Mapping[str, Any]],
    times: Sequence[RuleTime],
    versions: Mapping[str, str],
    weights: Mapping[str, str],
) -> dict[str, Any]:
    """The content of ``summary.json``.

    Scores are means over seeds in percent, ``<metric>_std`` their sample standard deviation (null for one seed);
    ``sweep`` lists the rows made with other settings than the configuration's own.
    """

    def entry(row: ScoreRow) -> dict[str, Any]:
        scores: dict[str, Any] = {}
        for name in METRICS:
            if name in row.mean:
                scores |= {name: row.mean[name], f"{name}_std": row.std.get(name)}
        per_seed = [
            {"seed": run.seed, **run.scores, "intervals": {name: list(pair) for name, pair in run.intervals.items()}}
            for run in row.runs
        ]
        return scores | {"iou": row.iou, "per_seed": per_seed, "protocol": protocol(row, config)}

    return {
        "run": config.run,
        "images": dict(images),
        "stages": {row.stage: entry(row) for row in rows if row.main},
        "sweep": [{"stage": row.stage} | entry(row) for row in rows if not row.main],
        "baselines": {name: dict(scores) for name, scores in baselines.items()},
        "seconds": {"total": sum(time.seconds for time in times), **{time.rule: time.seconds for time in times}},
        "provenance": {
            "config": config.model_dump(mode="json"),
            "versions": dict(versions),
            "weights": dict(weights),
        },
    }


def time_rows(times: Sequence[RuleTime]) -> list[dict[str, Any]]:
    """Rules with their share of the whole in percent."""
    total = sum(time.seconds for time in times) or 1.0
    return [
        {
            "rule": time.rule,
            "jobs": time.jobs,
            "time": duration(time.seconds),
            "share": 100 * time.seconds / total,
            "peak": NONE if time.peak_mb is None else f"{time.peak_mb:,.0f}",
        }
        for time in times
    ]


def chain_rows(chain: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stages with their parameters as JSON and the first digits of their inputs' hashes."""
    return [
        {
            "stage": record["stage"],
            "params": json.dumps(record["params"], sort_keys=True, ensure_ascii=False),
            "inputs": [(name, str(digest)[:12]) for name, digest in sorted(record["inputs"].items())],
        }
        for record in chain
    ]


def render(context: Mapping[str, Any]) -> str:
    """Fill the template. Every text is escaped; only SVG made by :mod:`maskdistill.report.figures` is taken as is."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**context)
