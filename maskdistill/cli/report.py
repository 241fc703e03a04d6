"""One self-contained HTML page and one JSON summary of a run: scores, pictures of every stage, provenance."""

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

import maskdistill
from maskdistill import rle
from maskdistill.cli.common import add_common, start
from maskdistill.config import Config, load_config
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import ok_images, read_manifest
from maskdistill.palette import read_label_png
from maskdistill.report import collect, figures, montage, page
from maskdistill.report.montage import Color
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_path, read_json, write_json

log = logging.getLogger("maskdistill")
TILE, PAIR, THUMB, SHOWN = 288, 224, 120, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. Pictures are those of the first seed; evaluations are of all seeds."""
    parser.add_argument("--run-name", required=True, metavar="NAME", help="name of the run, the page's title")
    parser.add_argument("--config", required=True, metavar="JSON", help="the whole validated configuration")
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument("--masks", required=True, nargs="+", metavar="SHARD", help="masks/shard-*.json")
    parser.add_argument(
        "--clusters", required=True, nargs="+", metavar="JSON", help="clusters.json; of several seeds the first is shown"
    )
    parser.add_argument("--candidates", required=True, nargs="+", metavar="SHARD", help="candidates/shard-*.json")
    parser.add_argument("--pseudo-labels", required=True, nargs="+", metavar="DIR", help="pseudo_labels/shard-*")
    parser.add_argument("--predictions", required=True, nargs="+", metavar="DIR", help="predictions/shard-*")
    parser.add_argument(
        "--evaluations", nargs="*", default=[], metavar="JSON", help="of all stages and seeds; none: nothing is scored"
    )
    parser.add_argument("--baselines", metavar="JSON", help="scores of colour clustering on the same images")
    parser.add_argument("--ground-truth", metavar="DIR", help="folder with instances.json and semantic/")
    parser.add_argument(
        "--metrics", nargs="*", default=[], metavar="NAME=CSV", help="training curves: pretrain, detector, segmenter"
    )
    parser.add_argument("--benchmarks", metavar="DIR", help="Snakemake's benchmark files of the run")
    parser.add_argument("--output", required=True, metavar="HTML")
    parser.add_argument("--summary", required=True, metavar="JSON")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Read, compose, write the page and the summary."""
    start(args, "report")
    config = _config(args.config)
    table = read_manifest(args.manifest)
    usable = ok_images(table)
    evaluations = [collect.read_evaluation(path) for path in args.evaluations]
    rows = collect.score_rows(evaluations, config)
    baselines, baseline_record = collect.read_baselines(args.baselines) if args.baselines else ({}, {})
    times = collect.read_benchmarks(args.benchmarks) if args.benchmarks else []
    masks, mask_chain = collect.read_masks(args.masks)
    clusters = read_json(_of_first_seed(args.clusters, config))
    chosen = _examples(usable, config.report.examples)
    tau, compare = config.pseudo_labels.tau, config.pseudo_labels.compare
    candidates = collect.read_candidates(args.candidates, tau, compare, {int(row.image_id) for row in chosen})
    pseudo = [read_json(Path(folder) / "summary.json") for folder in args.pseudo_labels]
    predicted = [_provenance(folder) for folder in args.predictions]

    gallery = Gallery(config, usable, masks, clusters, _matchings(rows, config), args.ground_truth)
    labels = {"pseudo-label": args.pseudo_labels, "prediction": args.predictions}
    strips = [gallery.strip(row, candidates.by_image.get(int(row.image_id), []), labels) for row in chosen]
    curves = [(name, figures.curves(name, collect.read_metrics(path))) for name, path in _named(args.metrics)]

    records = [
        *mask_chain, clusters.get("provenance") or {}, *candidates.provenance,
        *(item.get("provenance") or {} for item in pseudo), *predicted,
        *(item.provenance for item in evaluations), baseline_record,
    ]  # fmt: skip
    chain, versions, weights = collect.merge_provenance(records)
    counts = {
        "train": int(usable["train"].sum()),
        "eval": int(usable["eval"].sum()),
        "quarantined": len(table) - len(usable),
    }
    main = [row for row in rows if row.main]
    names, series = page.class_table(main)
    masked = {record["image_id"] for record in masks.values()}
    stats = _pseudo_stats(pseudo)
    context = {
        "run": args.run_name,
        "version": maskdistill.__version__,
        "subtitle": _subtitle(config, counts, len(usable)),
        "sections": _sections(curves, bool(names)),
        "metrics": list(page.HEADLINE.values()),
        "settings": list(page.PROTOCOL.values()),
        "flow": page.flow(main),
        "checks": page.checks(config, counts, len(usable) - len(masked), _coverage(masks), clusters["sizes"], stats),
        "rows": [page.table_row(row, config) for row in main]
        + [page.baseline_row(name, scores) for name, scores in baselines.items()],
        "table_note": page.table_note(main),
        "seed_rows": page.seed_rows(main) if any(len(row.runs) > 1 for row in main) else [],
        "sweep_rows": [page.table_row(row, config) for row in rows if not row.main],
        "data": {
            "facts": [(len(usable), "usable images"), *((counts[name], name) for name in ("train", "eval"))]
            + [(counts["quarantined"], "quarantined")],
            "sizes": figures.histogram(
                "sizes", {"width": usable["width"], "height": usable["height"]}, "pixels"
            ),
            "quarantined": [(row.path, row.reason) for row in table[table["status"] != "ok"].itertuples()],
        },
        "pretrain": next((plots for name, plots in curves if name == "pretrain"), []),
        "masks": {
            "facts": [(len(masks), "masks"), (len(usable) - len(masked), "images without one")]
            + ([(f"{np.median(_coverage(masks)):.0f} %", "median coverage")] if masks else []),
            "coverage": figures.histogram("coverage", {"masks": _coverage(masks)}, "% of the image", (0, 100)),
            "pairs": gallery.pairs(config.report.examples),
        },
        "clusters": {
            "matched": bool(gallery.matchings.get("masks")),
            "sizes": figures.cluster_bars("clusters", clusters["sizes"], gallery.own_colors("masks")),
            "strips": gallery.cluster_strips(config.report.per_cluster),
        },
        "training": [(name, plots) for name, plots in curves if name != "pretrain"],
        "candidates": {
            "facts": [
                (f"{len(candidates.scores):,}", "candidates"),
                (f"{candidates.images_above} of {len(usable)}", f"images with one above τ = {tau:g}"),
                *((value, label) for label, value in stats.items()),
            ],
            "scores": figures.histogram(
                "scores", {"candidates": candidates.scores}, "score", (0, 1), (tau, f"τ = {tau:g}"), True, "candidates"
            ),
        },
        "images": {"lead": gallery.lead(), "legend": gallery.legend(), "strips": strips},
        "columns": max((len(strip["tiles"]) for strip in strips), default=1),
        "classes": page.class_section(names, series),
        "times": page.time_rows(times),
        "total_time": page.duration(sum(time.seconds for time in times)),
        "weights": sorted(weights.items()),
        "chain": page.chain_rows(chain),
        "config": json.dumps(config.model_dump(mode="json"), indent=2, ensure_ascii=False),
        "versions": sorted(versions.items()),
    }
    html = page.render(context)
    with atomic_path(args.output) as temporary:
        temporary.write_text(html, encoding="utf-8")
    write_json(args.summary, page.summary(config, counts, rows, baselines, times, versions, weights))
    log.info("%s: %.1f MB, %d stages scored", args.output, len(html) / 1e6, len(main))
