"""One self-contained HTML page and one JSON summary of a run: scores, pictures of every stage, provenance."""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskdistill.annotations.names import ClusterNames, read_names
from maskdistill.cli.common import add_common, start
from maskdistill.cli.pages import add_config, add_run_name, write_page
from maskdistill.cli.report_failures import failure_pictures
from maskdistill.cli.report_material import Material
from maskdistill.cli.report_pictures import compose
from maskdistill.cli.report_strips import Strips
from maskdistill.clusters.assignments import open_assignments
from maskdistill.config import Config, load_config
from maskdistill.data.dropped import DroppedRecord
from maskdistill.formats.written import read_objects
from maskdistill.report import collect, labels, masks, page, rounds, scores
from maskdistill.report.failures import choose_failures
from maskdistill.report.files import own_files
from maskdistill.report.html import render
from maskdistill.report.images import read_images
from maskdistill.report.summary import summary
from maskdistill.report.words import words
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. Pictures are those of the first seed; evaluations are of all seeds."""
    add_run_name(parser)
    add_config(parser)
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument("--masks", required=True, nargs="+", metavar="SHARD", help="masks/shard-*.json")
    parser.add_argument(
        "--clusters",
        required=True,
        nargs="+",
        metavar="JSON",
        help="clusters.json; of several seeds the first is shown",
    )
    parser.add_argument(
        "--assignments", required=True, nargs="+", metavar="H5", help="the same of assignments.h5"
    )
    parser.add_argument("--choose-k", metavar="CSV", help="numbers of clusters compared without labels")
    parser.add_argument(
        "--candidates", required=True, nargs="+", metavar="SHARD", help="candidates/shard-*.json"
    )
    parser.add_argument(
        "--pseudo-labels", required=True, nargs="+", metavar="DIR", help="pseudo_labels/shard-*"
    )
    parser.add_argument(
        "--label-summary", metavar="JSON", help="counts of pseudo-labels at a series of thresholds"
    )
    parser.add_argument(
        "--trust", nargs="*", default=[], metavar="JSON", help="verdict; of several seeds' the first's"
    )
    parser.add_argument(
        "--objects", metavar="JSON", help="objects.json: the run's own objects in other tools' formats"
    )
    parser.add_argument(
        "--learnt",
        nargs="*",
        default=[],
        metavar="JSON",
        help="annotations of each round of self-training, the first detector's before; none without rounds",
    )
    parser.add_argument("--learnt-index", nargs="*", default=[], metavar="H5", help="their indices")
    parser.add_argument("--predictions", required=True, nargs="+", metavar="DIR", help="predictions/shard-*")
    parser.add_argument(
        "--sharpened",
        nargs="*",
        default=[],
        metavar="DIR",
        help="predictions_crf/shard-*: the same after a dense CRF",
    )
    parser.add_argument(
        "--evaluations",
        nargs="*",
        default=[],
        metavar="JSON",
        help="of all stages and seeds; none: nothing is scored",
    )
    parser.add_argument("--quality", metavar="JSON", help="what candidate_quality wrote")
    parser.add_argument("--names", metavar="YAML", help="names of the clusters, saved from an earlier page")
    parser.add_argument("--baselines", metavar="JSON", help="scores of colour clustering on the same images")
    parser.add_argument("--ground-truth", metavar="DIR", help="folder with instances.json and semantic/")
    parser.add_argument(
        "--metrics",
        nargs="*",
        default=[],
        metavar="NAME=CSV",
        help="training curves: detector, segmenter, and any name that starts with pretrain",
    )
    parser.add_argument("--benchmarks", metavar="DIR", help="Snakemake's benchmark files of the run")
    parser.add_argument("--output", required=True, metavar="HTML")
    parser.add_argument("--summary", required=True, metavar="JSON")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Read, compose, write the page and the summary."""
    start(args, "report")
    content = read_run(args, _config(args.config))
    material = Material(
        content, args.manifest, args.ground_truth, args.pseudo_labels, args.predictions, args.sharpened
    )
    strips = Strips(material)
    pictures, failures = compose(material, strips), failure_pictures(strips)
    html = render("run", page.context(content, pictures, failures, Path(args.output).parent), words())
    write_page(args.output, html)
    write_json(args.summary, summary(content))
    log.info("%s: %.1f MB", args.output, len(html) / 1e6)


def read_run(args: argparse.Namespace, config: Config) -> collect.Run:
    """Everything but pictures.

    Of several seeds' clusters the ones of the configuration's first seed are taken.
    """
    images = read_images(args.manifest, config.report.examples, _scored_ids(args.ground_truth))
    evaluations = [scores.read_evaluation(path) for path in args.evaluations]
    rows = scores.score_rows(evaluations, config)
    quality = read_json(args.quality) if args.quality else None
    failures = choose_failures(scores.first_seed(rows, "segmenter", config), quality)
    baselines, baseline_record = scores.read_baselines(args.baselines) if args.baselines else ({}, None)
    clusters = read_json(_of_first_seed(args.clusters, config))
    shown = set(images.examples)
    nearest = config.report.per_cluster
    with open_assignments(
        _of_first_seed(args.assignments, config), int(clusters["num_clusters"])
    ) as assignments:
        members = masks.extremes(
            assignments.blocks(), assignments.num_clusters, nearest, max(1, nearest // 2)
        )
        found = masks.read_masks(args.masks, assignments, members, shown, config.report.examples)
    names = read_names(args.names, len(clusters["sizes"])) if args.names else ClusterNames({})
    if not (fits := names.fit(clusters["sizes"])):
        log.warning("%s: names of another clustering; they are not used", args.names)
    candidates, candidate_records = collect.read_candidates(args.candidates, config, shown | failures.images)
    pseudo_labels = [read_json(Path(folder) / "summary.json") for folder in args.pseudo_labels]
    predictions = [
        read_json(Path(folder) / "summary.json") for folder in (*args.predictions, *args.sharpened)
    ]
    verdict = read_json(_of_first_seed(args.trust, config)) if args.trust else None
    objects = read_objects(args.objects) if args.objects else None
    records = [
        *found.chain,
        clusters.get("provenance"),
        *candidate_records,
        *(item.get("provenance") for item in [*pseudo_labels, *predictions]),
        *(item.provenance for item in evaluations),
        baseline_record,
        *(record["provenance"] for record in (quality, verdict, objects) if record),
    ]
    chain, versions, weights = collect.merge_provenance([record for record in records if record])
    return collect.Run(
        name=args.run_name,
        config=config,
        images=images,
        rows=rows,
        baselines=baselines,
        masks=found,
        clusters=clusters,
        members=members,
        choices=collect.read_sealed_csv(args.choose_k) if args.choose_k else pd.DataFrame(),
        candidates=candidates,
        pseudo_labels=labels.sum_pseudo_labels(pseudo_labels),
        trust=verdict,
        files=own_files(objects, args.objects, args.output) if objects else None,
        thresholds=pd.DataFrame(read_json(args.label_summary)["by_tau"] if args.label_summary else []),
        quality=quality,
        failures=failures,
        rounds=rounds.read_rounds(args.learnt, args.learnt_index, config.report.examples),
        truth=_truth(args.ground_truth),
        names=names.names if fits else {},
        unused_names="" if fits else args.names,
        metrics={
            name: collect.read_metrics(path) for name, path in _named("--metrics", args.metrics).items()
        },
        times=collect.read_benchmarks(args.benchmarks, config) if args.benchmarks else [],
        chain=chain,
        versions=versions,
        weights=weights,
    )


def _scored_ids(ground_truth: str | None) -> npt.NDArray[np.int64]:
    """Ids of the images that are scored; none without ground truth."""
    listed = read_json(Path(ground_truth) / "instances.json")["images"] if ground_truth else []
    return np.array([image["id"] for image in listed if image.get("evaluated", True)], np.int64)


def _config(text: str) -> Config:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise MaskDistillError(
            f"--config: not valid JSON ({error}); give the whole validated configuration"
        ) from None
    return load_config(values, "--config")


def _truth(folder: str | None) -> DroppedRecord | None:
    """What the stage ``ground_truth`` counted and dropped; None where it is not told."""
    path = Path(folder or "", "dropped.json")
    return read_json(path) if folder and path.is_file() else None


def _of_first_seed(paths: Sequence[str], config: Config) -> str:
    seeds = {scores.swept_values(path).get("seed"): path for path in paths}
    return seeds.get(str(config.seeds[0]), paths[0])


def _named(option: str, pairs: Sequence[str]) -> dict[str, str]:
    """``["detector=a/metrics.csv"]`` as a mapping of names to existing files."""
    named: dict[str, str] = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        if not name or not path or name in named:
            raise MaskDistillError(f"{option} {pair}: expected NAME=FILE with each name once")
        if not Path(path).is_file():
            raise MaskDistillError(
                f"{path}: no such file ({option} {name}); run the stage that makes it first"
            )
        named[name] = path
    return named
