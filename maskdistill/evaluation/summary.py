"""Scores of one stage as they stand in its JSON: all in percent, None where there is nothing to score."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill.evaluation.average_precision import STATS, average_precision, percent
from maskdistill.evaluation.bootstrap import class_iou_intervals, miou_interval, share_interval
from maskdistill.evaluation.clustering import cluster_scores
from maskdistill.evaluation.failures import worst_images
from maskdistill.evaluation.ground_truth import GroundTruth
from maskdistill.evaluation.instances import ImageInstances
from maskdistill.evaluation.localisation import corloc_hits
from maskdistill.evaluation.matching import UNMATCHED, Matching
from maskdistill.evaluation.semantic import Confusions, semantic_scores

WORST = 4
"""Images listed for each class."""


def summarise(
    truth: GroundTruth,
    confusions: Confusions,
    boxes: Mapping[int, npt.ArrayLike] | None,
    instances: Sequence[ImageInstances] | None,
    matching: Matching,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Semantic, instance and localisation scores by the one protocol [P §4.1, §A.4].

    Args:
        truth: evaluation images.
        confusions: filled from the images that have a semantic map.
        boxes: one predicted box (4,) xywh by image id, absent ids are misses; None: CorLoc is not scored.
        instances: detections and objects of the images whose objects carry masks; None: AP is not scored.
        matching: see :func:`maskdistill.evaluation.matching.match_clusters`.
        resamples: bootstrap resamples of the images; 0: no intervals.
        seed: of the bootstrap.

    Returns:
        ``miou, pixel_accuracy, iou {class name: value}, matching {predicted label 0..K: class id 0..C or None},
        ap, ap50, ap75, corloc, images, counts {semantic, instances, localisation}, intervals {miou, corloc},
        class_intervals {class name: interval}``.
        AP is that of all detections, class-agnostic; CorLoc counts images with an object that is not a crowd region.
    """
    result: dict[str, Any] = {
        "class_intervals": {},
        "miou": None,
        "pixel_accuracy": None,
        "iou": {},
        "matching": {},
        "corloc": None,
    }
    intervals: dict[str, list[float]] = {}
    if len(confusions):
        scores = semantic_scores(confusions.total, matching)
        result["miou"] = 100 * scores.miou
        result["pixel_accuracy"] = 100 * scores.pixel_accuracy
        result["iou"] = {
            name: 100 * float(value) for name, value in zip(truth.class_names, scores.class_iou, strict=True)
        }
        result["matching"] = {
            str(label): None if matched == UNMATCHED else int(matched) for label, matched in enumerate(scores.matching)
        }
        if resamples:
            sampled = (confusions, scores.matching, resamples, seed)
            intervals["miou"] = [100 * bound for bound in miou_interval(*sampled)]
            by_class = zip(truth.class_names, (100 * class_iou_intervals(*sampled)).tolist(), strict=True)
            result["class_intervals"] = {name: bounds for name, bounds in by_class if np.isfinite(bounds).all()}

    result |= dict.fromkeys(STATS[:3])
    if instances is not None:
        stats = average_precision(instances, class_agnostic=True).stats[:3]
        result |= {name: percent(value) for name, value in zip(STATS[:3], stats.tolist(), strict=True)}

    evaluated = [image for image in truth.images if image.evaluated]
    with_objects = [image for image in evaluated if len(image.boxes())]
    if boxes is not None and with_objects:
        hits = corloc_hits([boxes.get(image.id) for image in with_objects], [image.boxes() for image in with_objects])
        result["corloc"] = 100 * float(hits.mean())
        if resamples:
            intervals["corloc"] = [100 * bound for bound in share_interval(hits, resamples, seed)]

    result["images"] = len(evaluated)
    result["counts"] = {
        "semantic": len(confusions),
        "instances": 0 if instances is None else len(instances),
        "localisation": len(with_objects) if boxes is not None else 0,
    }
    result["intervals"] = intervals
    return result


def describe_confusions(
    truth: GroundTruth, confusions: Confusions, image_ids: Sequence[int], matching: Mapping[str, int | None]
) -> dict[str, Any]:
    """What a page shows beside the semantic scores.

    Args:
        truth: evaluation images.
        confusions: filled from the images that have a semantic map.
        image_ids: theirs, in that order.
        matching: class id of each label, as :func:`summarise` gives it.

    Returns:
        ``classes`` (names of 0..C), ``confusion`` (pixels by label 0..K and class) and ``worst_images {class id:
        [{image_id, iou}]}``, see
        :func:`maskdistill.evaluation.failures.worst_images`.
    """
    classes = np.array([UNMATCHED if c is None else c for _, c in sorted(matching.items(), key=lambda p: int(p[0]))])
    worst = worst_images(confusions, image_ids, classes, WORST)
    return {
        "classes": list(truth.class_names),
        "confusion": confusions.total.tolist(),
        "worst_images": {str(label): rows for label, rows in worst.items()},
    }


def summarise_clusters(clusters: Sequence[int], targets: Sequence[int]) -> dict[str, float | None]:
    """``purity, cluster_accuracy, nmi, ari`` in percent (ARI may be negative); None without masks."""
    if not clusters:
        return {"purity": None, "cluster_accuracy": None, "nmi": None, "ari": None}
    scores = cluster_scores(clusters, targets)
    return {
        "purity": 100 * scores.purity,
        "cluster_accuracy": 100 * scores.accuracy,
        "nmi": 100 * scores.nmi,
        "ari": 100 * scores.ari,
    }
