"""Score the detector's candidates against the ground truth of the evaluation images, at every threshold.

Gives a page what it needs to choose tau and to show failures: precision, coverage and mIoU of the
pseudo-labels at every threshold, score against IoU, precision-recall curves, objects that are merged or
missed. Masks are painted, whatever pseudo_labels.type says; with overlap: legacy, pixels that two candidates
share count for the better one.
"""

import argparse
import logging
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from maskdistill.cli.common import add_common, start
from maskdistill.cli.detections import candidate_shards
from maskdistill.cli.evaluation_inputs import add_scored_images, load_ground_truth, read_semantic
from maskdistill.cli.option_types import whole
from maskdistill.config import CandidateQualityConfig, parse_section
from maskdistill.detector.types import Candidate
from maskdistill.evaluation.average_precision import AGNOSTIC, average_precision
from maskdistill.evaluation.failures import merged_objects, missed_objects
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage
from maskdistill.evaluation.instances import Floats, ImageInstances, image_instances
from maskdistill.evaluation.protocols import count_pairs, match_instances, with_classes
from maskdistill.evaluation.thresholds import ImageThresholds, Thresholds, image_thresholds, score_quality
from maskdistill.evaluation.types import CandidateQuality, Curves
from maskdistill.pseudo_labels.confidence import levels_passed
from maskdistill.pseudo_labels.painting import painting_ranks
from maskdistill.pseudo_labels.summary import TAUS
from maskdistill.runtime.files import write_json
from maskdistill.runtime.processes import in_forks
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")
LISTED = 24
"""Merged and missed objects that are listed."""
CURVES = {"0.5": 0, "0.75": 5}
"""IoU of the class-agnostic curves, and its place among COCO's thresholds."""


class Scored(NamedTuple):
    """What one image adds."""

    thresholds: ImageThresholds
    instances: ImageInstances | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_scored_images(parser)
    parser.add_argument(
        "--candidates", required=True, nargs="+", metavar="JSON", help="candidates of all shards"
    )
    parser.add_argument("--num-clusters", required=True, type=whole(1), metavar="K")
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Score all candidates and write the JSON."""
    start(args, "candidate_quality")
    config = parse_section(CandidateQualityConfig, args.params)
    truth = load_ground_truth(args.manifest, args.ground_truth, instances=True)
    classes = len(truth.class_names)
    thresholds = Thresholds(args.num_clusters + 1, classes, TAUS)
    instances = []
    done = (
        scored
        for group in _groups(args, truth)
        for scored in in_forks(partial(_score, args, config, truth), group, args.threads)
    )
    for scored in progress(done, len(truth.images), "candidates"):
        thresholds.add(scored.thresholds)
        if scored.instances is not None:
            instances.append(scored.instances)
    instances.sort(key=lambda image: image.image_id)
    settings = {
        "pseudo_labels": config.pseudo_labels.model_dump(include={"compare", "overlap"}),
        "matching": config.evaluation.matching,
    }
    inputs = {"manifest": args.manifest, "ground_truth": args.ground_truth}
    inputs |= {f"candidates/{path.rpartition('/')[2]}": path for path in args.candidates}
    content: CandidateQuality = {
        "images": len(truth.images),
        "by_tau": thresholds.rows(config.evaluation.matching),
        "quality": score_quality(instances),
        "curves": _curves(instances, args.num_clusters, truth),
        "merged": merged_objects(instances, LISTED),
        "missed": missed_objects(instances, LISTED),
    }
    write_json(args.output, {"provenance": make_provenance("candidate_quality", settings, inputs), **content})
    correlation = content["quality"]["rank_correlation"]
    log.info("%d images, rank correlation of score and IoU %s", len(truth.images), correlation)


def _groups(
    args: argparse.Namespace, truth: GroundTruth
) -> Iterator[list[tuple[TruthImage, list[Candidate]]]]:
    """All images once: those of each shard with their candidates, then those without any."""
    left = {image.id: image for image in truth.images}
    for detections in candidate_shards(args.candidates, args.num_clusters, truth):
        yield [(left.pop(number), found) for number, found in detections.items()]
    yield [(image, []) for image in left.values()]


def _score(
    args: argparse.Namespace,
    config: CandidateQualityConfig,
    truth: GroundTruth,
    item: tuple[TruthImage, list[Candidate]],
) -> Scored:
    image, found = item
    labels = config.pseudo_labels
    kept, ranks = painting_ranks(found, (image.height, image.width), labels.overlap)
    levels = levels_passed([one["score"] for one in found], labels.compare, TAUS)
    instances = image_instances(image.id, found, image.annotations) if image.has_masks else None
    target = read_semantic(args.ground_truth, image, truth) if image.has_semantic else None
    categories = [one["category_id"] for one in found]
    counted = image_thresholds(
        levels.tolist(), kept, ranks, categories, instances, target, len(truth.class_names), len(TAUS)
    )
    return Scored(counted, instances)


def _curves(instances: list[ImageInstances], num_clusters: int, truth: GroundTruth) -> Curves:
    """Precision at recalls 0, 0.01, ... 1: class-agnostic by IoU, and of each class at an IoU of a half."""
    agnostic = average_precision(instances, class_agnostic=True).curves.get(AGNOSTIC)
    matching = match_instances(count_pairs(instances, num_clusters, len(truth.class_names) - 1))
    named = average_precision([with_classes(image, matching) for image in instances]).curves
    return {
        "agnostic": {}
        if agnostic is None
        else {iou: _rounded(agnostic[place]) for iou, place in CURVES.items()},
        "classes": {truth.class_names[label]: _rounded(curve[0]) for label, curve in named.items()},
    }


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 5) for value in values]
