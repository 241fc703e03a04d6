"""The report's page and summary: numbers become text, tables and one self-contained HTML file."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

import maskdistill
from maskdistill.config import Config
from maskdistill.report import figures
from maskdistill.report.clusters import cluster_section
from maskdistill.report.collect import METRICS, STAGES, RuleTime, Run, ScoreRow
from maskdistill.report.labels import label_facts, threshold_plots
from maskdistill.report.montage import Color, Rgb

TEMPLATE = Path(__file__).with_name("template.html.j2")
NONE, MINUS = "—", "\N{MINUS SIGN}"
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
NAMES = {"probe": "linear probe (trained on labels)"}
IMAGES = {"train": "for training", "eval": "for evaluation", "quarantined": "quarantined"}


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
        exchange = f", {config.pretrain.exchange_share:.0%} exchanged scenes" if config.pretrain.exchange_share else ""
        return f"own images: {config.pretrain.objective}, {config.pretrain.steps} steps{exchange}"
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
    tau = f"{config.pseudo_labels.tau if row.tau is None else row.tau:g}"
    painted = "" if row.label_type in (None, "mask") else f", {row.label_type}"
    return {
        "weights": weights_text(config),
        "center": NONE if row.baseline else "on" if config.masks.affinity.center else "off",
        "short_side": str(config.features.short_side),
        "topk": NONE if row.baseline else f"{config.masks.topk if row.topk is None else row.topk:g}",
        "num_clusters": str(row.num_clusters or config.clusters.total),
        "tau": NONE if row.stage == "masks" else tau + painted,
        "seeds": ", ".join(map(str, row.seeds)) or NONE,
    }


def table_row(row: ScoreRow, config: Config) -> dict[str, Any]:
    """One row of a score table: label, scores with intervals, protocol."""
    scores = [{"text": score_text(row, name), "interval": interval_text(row, name)} for name in HEADLINE]
    stage = "baseline" if row.baseline else row.stage
    label = f"masks: {row.baseline}" if row.baseline else NAMES.get(row.stage, row.stage)
    return {"label": label, "stage": stage, "scores": scores, "protocol": list(protocol(row, config).values())}


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
        step = "" if before is None else f"{value - before[1]:+.1f} on {before[0]}".replace("-", MINUS, 1)
        tiles.append({"stage": row.stage, "value": f"{value:.1f}", "spread": spread, "step": step})
        before = (row.stage, value)
    return tiles


def summary(run: Run) -> dict[str, Any]:
    """The content of ``summary.json``.

    Scores are means over seeds in percent, ``<metric>_std`` their sample standard deviation (null for one seed);
    ``sweep`` lists the rows made with other settings than the configuration's own; ``baselines`` holds colour
    clustering and, in full, masks by other rules.
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
        return scores | {"iou": row.iou, "per_seed": per_seed, "protocol": protocol(row, run.config)}

    seconds = {time.rule: time.seconds for time in run.times}
    return {
        "run": run.name,
        "images": run.images,
        "stages": {row.stage: entry(row) for row in run.main_rows},
        "sweep": [{"stage": row.stage} | entry(row) for row in run.swept_rows],
        "baselines": run.baselines | {str(row.baseline): entry(row) for row in run.baseline_rows},
        "pseudo_labels": run.config.pseudo_labels.model_dump(mode="json")
        | run.pseudo_labels
        | {"by_tau": run.thresholds.to_dict("records")},
        "seconds": {"total": sum(seconds.values())} | seconds,
        "provenance": {
            "config": run.config.model_dump(mode="json"),
            "versions": run.versions,
            "weights": run.weights,
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


def checks(run: Run) -> list[str]:
    """What a reader should look at before trusting the run, in plain sentences; empty if nothing stands out."""
    notes = []
    images, coverage, sizes = len(run.usable), run.masks.coverage, run.clusters["sizes"]
    if run.config.backbone.weights == "random":
        notes.append("The backbone is untrained (weights: random); this run is good for comparison only.")
    if count := run.images["quarantined"]:
        notes.append(f"{count} of {len(run.table)} files could not be used; the reasons are listed under Data.")
    if run.unmasked:
        notes.append(f"{run.unmasked} of {images} images have no mask.")
    if coverage.size and not 2 <= (middle := float(np.median(coverage))) <= 80:
        notes.append(f"Half of the masks cover {middle:.1f} % of their image or {'less' if middle < 2 else 'more'}.")
    if empty := sum(size == 0 for size in sizes):
        notes.append(f"{empty} of {len(sizes)} clusters are empty.")
    if len(sizes) > 1 and sum(sizes) and (share := 100 * max(sizes) / sum(sizes)) > 60:
        notes.append(f"One cluster holds {share:.0f} % of the masks.")
    if (below := images - run.candidates.images_above) > 0.2 * images:
        notes.append(f"{below} of {images} images have no candidate above τ = {run.config.pseudo_labels.tau:g}.")
    if empty := run.pseudo_labels["empty"]:
        notes.append(f"{empty} of {run.pseudo_labels['images']} pseudo-labels are empty: background everywhere.")
    return notes


def subtitle(run: Run) -> str:
    """One sentence below the title: images, K, tau, seeds."""
    config, images = run.config, run.images
    roles = f" ({images['train']} to train on, {images['eval']} for evaluation)" if run.main_rows else ""
    seeds = f"seed{'s' if len(config.seeds) > 1 else ''} {', '.join(map(str, config.seeds))}"
    clusters, tau = config.clusters.total, config.pseudo_labels.tau
    return f"{len(run.usable)} images{roles}, {clusters} clusters, τ = {tau:g}, {seeds}."


def table_note(rows: Sequence[ScoreRow]) -> str:
    """What the numbers of the score table are."""
    spread = (
        "Mean ± sample standard deviation over seeds."
        if any(len(row.runs) > 1 for row in rows)
        else "One seed; brackets hold the bootstrap interval over images."
    )
    return (
        f"{spread} mIoU and pixel accuracy after matching clusters with classes; AP and AP50 are class-agnostic, "
        "on masks; CorLoc on boxes; purity of the clusters of masks. A dash: not scored at this stage."
    )


def class_section(rows: Sequence[ScoreRow]) -> dict[str, Any]:
    """Mean IoU of each class, background first: bars of at most ten classes a plot, and the same as a table."""
    scored = [row for row in rows if row.stage in STAGES and row.iou]
    names = sorted({name for row in scored for name in row.iou}, key=lambda name: (name != "background", name))
    series = {row.stage: [row.iou.get(name, float("nan")) for name in names] for row in scored}
    parts = -(-len(names) // 10)
    edges = [round(part * len(names) / parts) for part in range(parts + 1)] if parts else []
    plots = []
    for part, (low, high) in enumerate(pairwise(edges)):
        title = "IoU by class" if parts == 1 else f"IoU by class, {part + 1} of {parts}"
        chosen = {stage: values[low:high] for stage, values in series.items()}
        plots.append((title, figures.class_bars(f"classes-{part}", names[low:high], chosen)))
    cells = [
        (name, [NONE if np.isnan(values[place]) else f"{values[place]:.1f}" for values in series.values()])
        for place, name in enumerate(names)
    ]
    return {"stages": list(series), "plots": plots, "table": cells}


@dataclass(frozen=True)
class Pictures:
    """Composed pictures: pairs of photo and mask, strips of clusters and of images, and what their colours mean."""

    pairs: list[tuple[Picture, Picture]]
    clusters: list[dict[str, Any]]
    cluster_colors: list[Color]
    strips: list[dict[str, Any]]
    legend: list[tuple[str, str]]


def context(run: Run, pictures: Pictures) -> dict[str, Any]:
    """Everything the template shows."""
    config, main, tau = run.config, run.main_rows, run.config.pseudo_labels.tau
    curves = [(name, figures.curves(name, frame)) for name, frame in run.metrics.items()]
    pretrain = [(name.removeprefix("pretrain-"), plots) for name, plots in curves if name.startswith("pretrain")]
    training = [(name, plots) for name, plots in curves if not name.startswith("pretrain")]
    classes = class_section(main)
    sections = [
        ("result", "Result", True),
        ("data", "Data", True),
        ("pretrain", "Pretraining", bool(pretrain)),
        ("masks", "Masks", True),
        ("clusters", "Clusters", True),
        ("training", "Training", bool(training)),
        ("candidates", "Candidates", True),
        ("images", "Images", True),
        ("classes", "Classes", bool(classes["plots"])),
        ("provenance", "Provenance", True),
    ]
    baselines = [table_row(row, config) for row in run.baseline_rows]
    baselines += [baseline_row(name, scores) for name, scores in run.baselines.items()]
    sizes = {"width": run.usable["width"].to_numpy(), "height": run.usable["height"].to_numpy()}
    scores = {"all": run.candidates.scores}
    cluster_sizes, bad = run.clusters["sizes"], run.table[run.table["status"] != "ok"]
    return {
        "run": run.name,
        "version": maskdistill.__version__,
        "subtitle": subtitle(run),
        "sections": [(anchor, title) for anchor, title, shown in sections if shown],
        "metrics": list(HEADLINE.values()),
        "settings": list(PROTOCOL.values()),
        "flow": flow(main),
        "checks": checks(run),
        "rows": [*(table_row(row, config) for row in main), *baselines] if main else [],
        "found": [
            (len(run.usable), "images"),
            (len(run.masks.coverage), "masks"),
            (len(cluster_sizes), "clusters"),
            (f"{run.candidates.images_above} of {len(run.usable)}", "images with a confident object"),
        ],
        "table_note": table_note(main),
        "seed_rows": seed_rows(main) if any(len(row.runs) > 1 for row in main) else [],
        "sweep_rows": [table_row(row, config) for row in run.swept_rows],
        "data": {
            "facts": [
                (len(run.usable), "usable images"),
                *((count, IMAGES[name]) for name, count in run.images.items() if main or name == "quarantined"),
            ],
            "sizes": figures.histogram("sizes", sizes, "pixels"),
            "quarantined": list(zip(bad["path"], bad["reason"], strict=True)),
        },
        "pretrain": pretrain,
        "masks": {
            "facts": [
                (len(run.masks.coverage), "masks"),
                (run.unmasked, "images without one"),
                (f"{np.median(run.masks.coverage):.0f} %" if len(run.masks.coverage) else NONE, "median coverage"),
            ],
            "coverage": figures.histogram("coverage", {"masks": run.masks.coverage}, "% of the image", (0, 100)),
            "pairs": pictures.pairs,
            "most": config.masks.max_masks,
        },
        "clusters": cluster_section(run, pictures.clusters, pictures.cluster_colors),
        "training": training,
        "candidates": {
            "facts": [
                (f"{len(run.candidates.scores):,}", "candidates"),
                (f"{run.candidates.images_above} of {len(run.usable)}", f"images with one above τ = {tau:g}"),
                *label_facts(run),
            ],
            "thresholds": threshold_plots(run),
            "scores": figures.histogram("scores", scores, "score", (0, 1), (tau, f"τ = {tau:g}"), True, "candidates"),
        },
        "images": {"scored": bool(main), "legend": pictures.legend, "strips": pictures.strips},
        "columns": max((len(strip["tiles"]) for strip in pictures.strips), default=1),
        "classes": classes,
        "times": time_rows(run.times),
        "total_time": duration(sum(time.seconds for time in run.times)),
        "weights": sorted(run.weights.items()),
        "chain": chain_rows(run.chain),
        "config": json.dumps(config.model_dump(mode="json"), indent=2, ensure_ascii=False),
        "versions": sorted(run.versions.items()),
    }


def render(context: Mapping[str, Any]) -> str:
    """Fill the template. Every text is escaped; only SVG made by :mod:`maskdistill.report.figures` is taken as is."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**context)
