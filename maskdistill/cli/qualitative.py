"""A run's pictures as in the paper: photo, mask, detector, segmenter, ground truth.

Writes a page, the grid as PNG, and a CSV that says how much is right in each image at each stage.
"""

import argparse
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from maskdistill.cli.common import add_common, start
from maskdistill.cli.detections import paint, read_masks
from maskdistill.cli.evaluation_inputs import add_scored_images, load_ground_truth, read_semantic
from maskdistill.cli.label_strips import (
    Column,
    Labels,
    class_colors,
    label_strip,
    read_label_map,
    shown_images,
    strip_pictures,
)
from maskdistill.cli.option_types import whole
from maskdistill.cli.pages import add_config, given_config, write_page, write_table
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage
from maskdistill.paper.grid import agreement, grid_figure
from maskdistill.paper.page import TITLES
from maskdistill.paper.plots import encode
from maskdistill.paper.rows import describe_data
from maskdistill.report import montage
from maskdistill.report.html import render
from maskdistill.report.images import find_images
from maskdistill.report.scores import read_evaluation
from maskdistill.report.words import words
from maskdistill.runtime.files import atomic_path

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``maskdistill qualitative``."""
    add_config(parser)
    add_scored_images(parser)
    parser.add_argument("--masks", required=True, nargs="+", metavar="SHARD", help="masks/shard-*.json")
    parser.add_argument("--assignments", required=True, metavar="H5", help="clusters of the masks")
    parser.add_argument("--pseudo-labels", required=True, metavar="DIR", help="with its shards")
    parser.add_argument("--predictions", required=True, metavar="DIR", help="with its shards")
    parser.add_argument(
        "--evaluations", required=True, nargs=3, metavar="JSON", help="of masks, detector and segmenter"
    )
    parser.add_argument("--seed", required=True, type=whole(0), help="whose results are shown")
    parser.add_argument("--output", required=True, metavar="HTML")
    parser.add_argument("--csv", required=True, metavar="CSV")
    parser.add_argument("--grid", required=True, metavar="PNG")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Read, draw, write the page, the PNG and the CSV."""
    start(args, "qualitative")
    config = given_config(args)
    truth = load_ground_truth(args.manifest, args.ground_truth)
    shown = shown_images(truth, config.paper.examples)
    masks = read_masks(
        args.masks, args.assignments, config.clusters.total, GroundTruth(tuple(shown), truth.class_names)
    )

    def painted(image: TruthImage) -> Labels:
        return paint(image, masks[image.id]).astype(np.uint8)

    def stored(folder: str, image: TruthImage) -> Labels:
        return read_label_map(Path(folder), image.key)

    labels: list[Callable[[TruthImage], Labels]] = [painted]
    labels += [partial(stored, folder) for folder in (args.pseudo_labels, args.predictions)]
    matchings = [read_evaluation(path).matching for path in args.evaluations]
    columns = [
        Column(title, labels_of, montage.matched_colors(config.clusters.total, matching, class_colors(truth)))
        for title, labels_of, matching in zip(
            ("mask", "detector", "segmenter"), labels, matchings, strict=True
        )
    ]
    photos = find_images(args.manifest, {image.id for image in shown})
    strips = {
        image.key: label_strip(photos[image.id].file, image, columns, truth, args.ground_truth)
        for image in shown
    }
    rows = [
        {"image": image.key, "stage": column.title, "seed": args.seed, "data": describe_data(config)}
        | agreement(
            column.labels(image), read_semantic(args.ground_truth, image, truth), matching, truth.class_names
        )
        for image in shown
        if image.has_semantic
        for column, matching in zip(columns, matchings, strict=True)
    ]
    write_table(args.csv, rows)
    titles = [tile.title for tile in strips[shown[0].key]]
    grid = grid_figure(titles, {key: [tile.pixels for tile in tiles] for key, tiles in strips.items()})
    with atomic_path(args.grid) as temporary:
        temporary.write_bytes(encode(grid, "png"))
    html = render(
        "qualitative",
        {
            "run": TITLES["qualitative"],
            "subtitle": f"Run {config.run}: {describe_data(config)}, seed {args.seed}. Clusters wear the "
            "colour of the class they are matched with; grey ones have none.",
            "sections": [("images", "Images"), ("numbers", "Numbers")],
            "columns": len(titles),
            "strips": [strip_pictures(key, tiles) for key, tiles in strips.items()],
            "rows": rows,
        },
        words(),
    )
    write_page(args.output, html)
    log.info("%d images, %d label maps compared", len(shown), len(rows))
