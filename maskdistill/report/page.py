"""The report's page and summary: a run's numbers become texts and tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypedDict

import numpy as np

from maskdistill.evaluation.metrics.registry import families, metrics
from maskdistill.evaluation.stages import STAGES
from maskdistill.pseudo_labels.confidence import relation
from maskdistill.report import figures, tau_explorer
from maskdistill.report.beside import files_beside, next_steps
from maskdistill.report.checks import checks
from maskdistill.report.clusters import cluster_section, names_data
from maskdistill.report.collect import ChainEntry, RuleTime, Run
from maskdistill.report.files import files_section
from maskdistill.report.html import Context, Picture
from maskdistill.report.images import LISTED
from maskdistill.report.labels import label_facts
from maskdistill.report.montage import Color
from maskdistill.report.quality import confusion_tables, quality_section
from maskdistill.report.scores import ScoreRow
from maskdistill.report.steps import worse_steps
from maskdistill.report.tables import (
    NONE,
    PROTOCOL,
    baseline_row,
    headings,
    interval_text,
    protocol,
    row_name,
    seed_rows,
    table_row,
)
from maskdistill.report.verdict import verdict_section
from maskdistill.trust.types import TrustRecord, VerdictRecord

MINUS = "\N{MINUS SIGN}"
IMAGES = {"train": "for training", "eval": "for evaluation", "quarantined": "quarantined"}


class ClusterSummary(TypedDict):
    """Masks of each cluster, and the names that clusters were given, by number."""

    sizes: list[int]
    names: dict[str, str]


class RunSummary(TypedDict):
    """``summary.json``; scores in percent.

    Attributes:
        run: its name.
        images: usable ones for training and evaluation, and quarantined ones.
        dropped: counts of what was dropped of the ground truth.
        clusters: of the first seed.
        stages: by name, at the configuration's own settings: a metric's mean over seeds, ``<metric>_std``,
            its sample standard deviation (null for one seed), ``iou`` by class, ``per_seed``, and the
            ``protocol`` in words.
        rounds: the same of the segmenter's CRF rounds before the last.
        sweep: of other settings.
        baselines: of colour clustering and, in full, of masks by other rules.
        trust: the verdict; None if there is none.
        worse_steps: stages that made scores worse, in words.
        pseudo_labels: their settings, counts, and counts at other thresholds.
        seconds: by rule, and their ``total``.
        provenance: the whole ``config``, ``versions`` of libraries and hashes of ``weights``.
    """

    run: str
    images: dict[str, int]
    dropped: dict[str, int]
    clusters: ClusterSummary
    stages: dict[str, dict[str, object]]
    rounds: list[dict[str, object]]
    sweep: list[dict[str, object]]
    baselines: Mapping[str, Mapping[str, object]]
    trust: VerdictRecord | None
    worse_steps: list[str]
    pseudo_labels: dict[str, object]
    seconds: dict[str, float]
    provenance: dict[str, object]


def duration(seconds: float) -> str:
    """``8.2 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


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
        tiles.append(
            {
                "stage": row.stage,
                "name": row_name(row),
                "value": f"{value:.1f}",
                "spread": spread,
                "step": step,
            }
        )
        before = (row_name(row), value)
    return tiles


def _verdict(record: TrustRecord) -> VerdictRecord:
    return {"verdict": record["verdict"], "reasons": record["reasons"], "signals": record["signals"]}


def summary(run: Run) -> RunSummary:
    """The content of ``summary.json``."""

    def entry(row: ScoreRow) -> dict[str, object]:
        scores: dict[str, object] = {}
        for name in metrics():
            if name in row.mean:
                scores |= {name: row.mean[name], f"{name}_std": row.std.get(name)}
        per_seed = [
            {
                "seed": run.seed,
                **run.scores,
                "intervals": {name: list(pair) for name, pair in run.intervals.items()},
            }
            for run in row.runs
        ]
        round_ = {} if row.crf_round is None else {"crf_round": row.crf_round}
        round_ |= {} if row.stage == "masks" else {"detector_round": row.detector_round}
        return scores | round_ | {"iou": row.iou, "per_seed": per_seed, "protocol": protocol(row, run.config)}

    seconds = {time.rule: time.seconds for time in run.times}
    return {
        "run": run.name,
        "images": run.image_counts,
        "dropped": run.truth["counts"] if run.truth else {},
        "clusters": {
            "sizes": run.clusters["sizes"],
            "names": {str(cluster): name for cluster, name in run.names.items()},
        },
        "stages": {row.stage: entry(row) for row in run.main_rows},
        "rounds": [{"stage": row.stage, **entry(row)} for row in run.chain_rows if row.earlier],
        "sweep": [{"stage": row.stage, **entry(row)} for row in run.swept_rows],
        "baselines": {**run.baselines, **{str(row.baseline): entry(row) for row in run.baseline_rows}},
        "trust": _verdict(run.trust) if run.trust else None,
        "worse_steps": worse_steps(run.chain_rows, run.baselines),
        "pseudo_labels": {
            **run.config.pseudo_labels.model_dump(mode="json"),
            **run.pseudo_labels,
            "by_tau": run.thresholds.to_dict("records"),
        },
        "seconds": {"total": sum(seconds.values()), **seconds},
        "provenance": {
            "config": run.config.model_dump(mode="json"),
            "versions": run.versions,
            "weights": run.weights,
        },
    }


def time_rows(times: Sequence[RuleTime]) -> list[Context]:
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


def chain_rows(chain: Sequence[ChainEntry]) -> list[Context]:
    """Stages with their parameters as JSON and the first digits of their inputs' hashes."""
    return [
        {
            "stage": record["stage"],
            "params": json.dumps(record["params"], sort_keys=True, ensure_ascii=False),
            "inputs": [(name, str(digest)[:12]) for name, digest in sorted(record["inputs"].items())],
        }
        for record in chain
    ]


def subtitle(run: Run) -> str:
    """One sentence below the title: images, K, tau, seeds."""
    config, images = run.config, run.image_counts
    roles = f" ({images['train']} to train on, {images['eval']} for evaluation)" if run.main_rows else ""
    seeds = f"seed{'s' if len(config.seeds) > 1 else ''} {', '.join(map(str, config.seeds))}"
    clusters, tau = config.clusters.total, config.pseudo_labels.tau
    return f"{run.images.usable} images{roles}, {clusters} clusters, τ = {tau:g}, {seeds}."


def table_note(rows: Sequence[ScoreRow]) -> str:
    """What the numbers of the score table are."""
    spread = (
        "Mean ± sample standard deviation over seeds."
        if any(len(row.runs) > 1 for row in rows)
        else "One seed; brackets hold the bootstrap interval over images."
    )
    shown = [
        family.note for family in families() if any("table" in metric.shown for metric in family.metrics)
    ]
    return f"{spread} {'; '.join(shown)}. A dash: not scored at this stage."


def class_section(rows: Sequence[ScoreRow]) -> Context:
    """Mean IoU of each class, background first: bars of at most ten classes a plot, and the same as a
    table.
    """
    scored = [row for row in rows if row.stage in STAGES and row.iou]
    names = sorted(
        {name for row in scored for name in row.iou}, key=lambda name: (name != "background", name)
    )
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
    """Composed pictures: pairs of photo and mask, strips of clusters, of images and of what the CRF did, a
    legend; strips of the masks that the verdict compares; and the photographs that the page opens with.
    """

    pairs: list[tuple[Picture, Picture]]
    clusters: list[Context]
    cluster_colors: list[Color]
    strips: list[Context]
    sharpened: list[Context]
    legend: list[tuple[str, str]]
    samples: list[tuple[Picture, tau_explorer.Sample]]
    verdict: list[Context]
    surest: list[Context]
    least: list[Context]


def context(run: Run, pictures: Pictures, failures: dict[str, list[Context]], folder: Path) -> Context:
    """Everything the template shows.

    Args:
        run: everything but pictures.
        pictures: of the page.
        failures: groups of the failure gallery.
        folder: where the page will lie; the run's.
    """
    config, main, tau = run.config, run.main_rows, run.config.pseudo_labels.tau
    chain = run.chain_rows
    curves = [(name, figures.curves(name, frame)) for name, frame in run.metrics.items()]
    pretrain = [
        (name.removeprefix("pretrain-"), plots) for name, plots in curves if name.startswith("pretrain")
    ]
    training = [(name, plots) for name, plots in curves if not name.startswith("pretrain")]
    classes = class_section(main)
    photos, drawn = [photo for photo, _ in pictures.samples], [values for _, values in pictures.samples]
    tau_section = tau_explorer.section(run, drawn, photos)
    quality = quality_section(run)
    verdict = verdict_section(run.trust, pictures.verdict)
    sections = [
        ("verdict", "Verdict" if verdict else "At a glance", True),
        ("overlays", "Best and worst", bool(pictures.surest)),
        ("files", "Your files", True),
        ("next", "What next", True),
        ("categories", "Categories", True),
        ("result", "Scores" if main else "Result", True),
        ("data", "Data", True),
        ("pretrain", "Pretraining", bool(pretrain)),
        ("masks", "Masks", True),
        ("clusters", "Clusters", True),
        ("training", "Training", bool(training)),
        ("candidates", "Candidates", True),
        ("tau", "τ explorer", bool(tau_section["data"])),
        ("quality", "Quality", bool(quality["plots"])),
        ("images", "Images", True),
        ("crf", "CRF", bool(pictures.sharpened)),
        ("classes", "Classes", bool(classes["plots"])),
        ("failures", "Failures", any(failures.values())),
        ("provenance", "Provenance", True),
    ]
    baselines = [table_row(row, config) for row in run.baseline_rows]
    baselines += [baseline_row(name, scores) for name, scores in run.baselines.items()]
    scores = {"all": run.candidates.scores}
    cluster_sizes, tied = run.clusters["sizes"], run.masks.tied
    return {
        "run": run.name,
        "subtitle": subtitle(run),
        "sections": [(anchor, title) for anchor, title, shown in sections if shown],
        "verdict": verdict,
        "overlays": {
            "surest": pictures.surest,
            "least": pictures.least,
            "without": run.images.usable - run.candidates.images,
            "relation": relation(True, config.pseudo_labels.compare),
        },
        "objects": files_section(run.files),
        "files": files_beside(folder, config, run.image_counts["quarantined"]),
        "steps": next_steps(folder, run.trust["verdict"] if run.trust else None, bool(run.names)),
        "metrics": headings(),
        "settings": list(PROTOCOL.values()),
        "flow": flow(chain),
        "checks": checks(run),
        "rows": [*(table_row(row, config) for row in chain), *baselines] if main else [],
        "found": [
            (run.images.usable, "images"),
            (len(run.masks.coverage), "masks"),
            (len(cluster_sizes), "clusters"),
            (f"{run.candidates.images_above} of {run.images.usable}", "images with a confident object"),
        ],
        "table_note": table_note(main),
        "seed_rows": seed_rows(chain) if any(len(row.runs) > 1 for row in main) else [],
        "sweep_rows": [table_row(row, config) for row in run.swept_rows],
        "data": {
            "facts": [
                (run.images.usable, "usable images"),
                *(
                    (count, IMAGES[name])
                    for name, count in run.image_counts.items()
                    if main or name == "quarantined"
                ),
            ],
            "sizes": figures.histogram("sizes", run.images.sizes, "pixels"),
            "quarantined": run.images.quarantined,
            "reasons": run.images.reasons,
            "dropped": run.truth["dropped"][:LISTED] if run.truth else [],
            "dropped_counts": run.truth["counts"] if run.truth else {},
        },
        "pretrain": pretrain,
        "masks": {
            "facts": [
                (len(run.masks.coverage), "masks"),
                (run.unmasked, "images without one"),
                (
                    f"{np.median(run.masks.coverage):.0f} %" if len(run.masks.coverage) else NONE,
                    "median coverage",
                ),
                *(
                    []
                    if tied is None
                    else [(f"{100 * tied:.0f} %", "of the candidate patches are ties (cls_mass)")]
                ),
            ],
            "coverage": figures.histogram(
                "coverage", {"masks": run.masks.coverage}, "% of the image", (0, 100)
            ),
            "pairs": pictures.pairs,
            "most": config.masks.most,
            "rule": None if config.masks.by_paper else config.masks.rule,
        },
        "clusters": cluster_section(run, pictures.clusters, pictures.cluster_colors),
        "training": training,
        "candidates": {
            "relation": relation(True, config.pseudo_labels.compare),
            "facts": [
                (f"{len(run.candidates.scores):,}", "candidates"),
                (
                    f"{run.candidates.images_above} of {run.images.usable}",
                    f"images with one {relation(True, config.pseudo_labels.compare)} τ = {tau:g}",
                ),
                *label_facts(run),
            ],
            "scores": figures.histogram(
                "scores", scores, "score", (0, 1), (tau, f"τ = {tau:g}"), True, "candidates"
            ),
        },
        "images": {"scored": bool(main), "legend": pictures.legend, "strips": pictures.strips},
        "crf": {"rounds": config.crf.rounds, "strips": pictures.sharpened},
        "tau": tau_section,
        "quality": quality,
        "confusions": confusion_tables(run) if classes["plots"] else [],
        "failures": failures,
        "names": names_data(run),
        "columns": max((len(strip["tiles"]) for strip in [*pictures.strips, *pictures.verdict]), default=1),
        "classes": classes,
        "times": time_rows(run.times),
        "total_time": duration(sum(time.seconds for time in run.times)),
        "weights": sorted(run.weights.items()),
        "chain": chain_rows(run.chain),
        "config": json.dumps(config.model_dump(mode="json"), indent=2, ensure_ascii=False),
        "versions": sorted(run.versions.items()),
    }
