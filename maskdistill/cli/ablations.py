"""Compare variants on one page: initial masks, label types, hard pixels, CRF rounds, over seeds.

The page and its JSON hold the rows of the paper's Table 1 and Table S1; see config section ``ablations``.
"""

import argparse
import logging
from functools import partial
from pathlib import Path

import numpy as np

from maskdistill.cli.common import add_common, start
from maskdistill.cli.detections import paint, read_masks
from maskdistill.cli.evaluation_inputs import add_scored_images, load_ground_truth
from maskdistill.cli.label_strips import (
    Column,
    Labels,
    class_colors,
    label_strip,
    read_label_map,
    shown_images,
    strip_pictures,
)
from maskdistill.cli.pages import add_config, add_run_name, given_config, numbered, write_page
from maskdistill.config import Config
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage
from maskdistill.report import ablations, montage
from maskdistill.report.html import render
from maskdistill.report.images import find_images
from maskdistill.report.montage import Color
from maskdistill.report.scores import Evaluation, read_evaluation, score_rows, swept_values
from maskdistill.report.words import words
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")
STAGE_OF = {"pseudo_labels": "detector", "predictions": "segmenter", "predictions_crf": "segmenter_crf"}
Setting = tuple[str, str | None, float | None, int | None]
"""What tells variants apart: stage, label type, hard pixels, CRF round; each where it matters to the stage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``maskdistill ablations``."""
    add_run_name(parser)
    add_config(parser)
    add_scored_images(parser)
    parser.add_argument(
        "--evaluations", required=True, nargs="+", metavar="JSON", help="of all variants and seeds"
    )
    parser.add_argument("--masks", required=True, nargs="+", metavar="SHARD", help="masks/shard-*.json")
    parser.add_argument(
        "--assignments", required=True, metavar="H5", help="clusters of the masks, of the first seed"
    )
    parser.add_argument(
        "--labels",
        required=True,
        nargs="+",
        metavar="DIR",
        help="pseudo_labels, predictions or predictions_crf with its shards, of each variant of the first "
        "seed",
    )
    parser.add_argument("--output", required=True, metavar="HTML")
    parser.add_argument("--summary", required=True, metavar="JSON")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Read, compose, write the page and the JSON."""
    start(args, "ablations")
    config = given_config(args)
    evaluations = [read_evaluation(path) for path in args.evaluations]
    found = ablations.variants(score_rows(evaluations, config), config)
    truth = load_ground_truth(args.manifest, args.ground_truth)
    shown = shown_images(truth, config.ablations.examples)
    folders = {setting_of_folder(folder): Path(folder) for folder in args.labels}
    masks = read_masks(
        args.masks, args.assignments, config.clusters.total, GroundTruth(tuple(shown), truth.class_names)
    )

    def labels_of(item: ablations.Variant, image: TruthImage) -> Labels:
        if item.row.stage == "masks":
            return paint(image, masks[image.id]).astype(np.uint8)
        setting = _setting(item.row.stage, item.row.label_type, item.row.hard_pixels, item.row.crf_round)
        if setting not in folders:
            raise MaskDistillError(
                f"--labels: no folder of {item.name}; give that of every variant that is scored"
            )
        return read_label_map(folders[setting], image.key)

    photos = find_images(args.manifest, {image.id for image in shown})
    columns = [
        Column(item.name, partial(labels_of, item), _first_colors(item, config, class_colors(truth)))
        for item in found
    ]
    strips = [
        strip_pictures(
            image.key, label_strip(photos[image.id].file, image, columns, truth, args.ground_truth)
        )
        for image in shown
    ]
    html = render("ablations", ablations.context(args.run_name, config, found, strips), words())
    write_page(args.output, html)
    inputs = numbered(args.evaluations)
    provenance = make_provenance("ablations", config.model_dump(mode="json"), inputs)
    write_json(
        args.summary, {"provenance": provenance, "run": args.run_name, "variants": ablations.records(found)}
    )
    for item in found:
        log.info("%-40s mIoU %s", item.name, item.row.mean.get("miou"))


def _first_colors(item: ablations.Variant, config: Config, classes: dict[int, Color]) -> dict[int, Color]:
    """Colours of a variant's clusters by what they are matched with in the first seed."""
    first: Evaluation = next(
        (run for run in item.row.runs if run.seed == config.ablations.seeds[0]), item.row.runs[0]
    )
    return montage.matched_colors(config.clusters.total, first.matching, classes)


def _setting(stage: str, label_type: str | None, hard_pixels: float | None, crf_round: int | None) -> Setting:
    segmenter = stage.startswith("segmenter")
    return stage, label_type, hard_pixels if segmenter else None, crf_round if segmenter else None


def setting_of_folder(folder: str) -> Setting:
    """Variant of ``.../tau-0.9-bbox/pseudo_labels`` or ``.../hard-0.2/crf-1/predictions_crf``."""
    stage, places = STAGE_OF.get(Path(folder).name), swept_values(folder)
    if stage is None or "label_type" not in places:
        raise MaskDistillError(
            f"--labels {folder}: expected .../tau-T/pseudo_labels or .../crf-N/predictions"
        )
    hard, round_ = places.get("hard"), places.get("crf")
    return _setting(
        stage,
        places["label_type"],
        None if hard is None else float(hard),
        None if round_ is None else int(round_),
    )
