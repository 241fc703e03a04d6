"""The protocols of instance AP [P §4.2, §A.4, Table 3], all on the same overlaps.

Two things vary. How categories count: ``agnostic``, not at all; ``semantic``, by the class that a detection's
cluster is matched with. Which objects count:

multi          all detections against all objects.
single         of each image the top-scoring detection, against the object whose box overlaps its box best. An
               image without detections loses its objects too: they are no misses, so read it with the number
               of such images.
single_strict  as single, but an image without detections keeps its largest object, which is then missed.

Table 3 (a), (b) are agnostic_multi, (c), (d) semantic_single, (e), (f) semantic_multi.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import cast, get_args

import numpy as np

from maskdistill.config import Protocol
from maskdistill.evaluation.ap_bootstrap import resampled_ap
from maskdistill.evaluation.average_precision import STATS, average_precision, percent
from maskdistill.evaluation.bootstrap import interval
from maskdistill.evaluation.instances import Floats, ImageInstances, Integers
from maskdistill.evaluation.localisation import box_iou
from maskdistill.evaluation.matching import UNMATCHED, match_scores
from maskdistill.evaluation.types import InstanceScores, ProtocolScore

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)


def top_detection(image: ImageInstances) -> int | None:
    """Index of the top-scoring detection, the first on ties; None without detections."""
    return int(image.scores.argmax()) if image.scores.size else None


def paired_object(image: ImageInstances, detection: int) -> int | None:
    """Index of the object whose box overlaps the detection's box best; None in an image without objects.

    Ties go to the first object, also if none overlaps. Classes do not count; crowd regions do. Corners of the
    objects' boxes are rounded to whole pixels.
    """
    if not image.true_labels.size:
        return None
    corners = image.true_boxes[:, :2], image.true_boxes[:, :2] + image.true_boxes[:, 2:]
    low, high = (np.round(corner) for corner in corners)
    return int(box_iou(image.boxes[detection], np.hstack([low, high - low]))[0].argmax())


def largest_object(image: ImageInstances) -> int | None:
    """Index of the object with the most pixels, the first on ties; None without objects.

    Crowd regions do not count.
    """
    objects = np.flatnonzero(~image.crowd)
    return int(objects[image.true_areas[objects].argmax()]) if objects.size else None


def single(image: ImageInstances, strict: bool) -> ImageInstances | None:
    """An image by the protocol ``single`` or ``single_strict``; None if it does not count at all.

    ``single`` scores pairs of a detection and an object, so an image that lacks one of them does not count.
    Under ``strict`` it does, as a false detection or a missed object.
    """
    top = top_detection(image)
    chosen = largest_object(image) if top is None else paired_object(image, top)
    if not strict and (top is None or chosen is None):
        return None
    return image.take([] if top is None else [top], [] if chosen is None else [chosen])


def count_pairs(images: Sequence[ImageInstances], num_clusters: int, num_classes: int) -> Integers:
    """Count the pairs of ``single`` by cluster and class.

    Args:
        images: with detections of clusters 1..K and objects of classes 1..C.
        num_clusters: K.
        num_classes: C.

    Returns:
        int64 (K, C).
    """
    counts = np.zeros((num_clusters, num_classes), dtype=np.int64)
    for image in images:
        pair = single(image, strict=False)
        if pair is not None:
            counts[pair.labels[0] - 1, pair.true_labels[0] - 1] += 1
    return counts


def match_instances(counts: Integers) -> Integers:
    """Class 1..C of each cluster 1..K, or -1: Hungarian matching of all pairs [method §9.3].

    A cluster without pairs takes one of the remaining classes: its objects may just never be an image's top
    detection. With more clusters than classes, each takes the class it is paired with most often, the first
    on ties, and a cluster without pairs takes none; detections of unmatched clusters do not count.

    Args:
        counts: int64 (K, C), see :func:`count_pairs`.

    Returns:
        int64 (K,).
    """
    matched = match_scores(counts.astype(np.float64))
    return np.where(matched == UNMATCHED, UNMATCHED, matched + 1)


def protocol_scores(
    images: Sequence[ImageInstances],
    num_clusters: int,
    class_names: Sequence[str],
    protocols: Collection[Protocol],
    resamples: int = 0,
    seed: int = 0,
    agnostic_drawn: Mapping[str, Floats] | None = None,
) -> InstanceScores:
    """Instance scores by protocol, in percent; None if there is nothing to find.

    Args:
        images: images whose objects have masks.
        num_clusters: K; detections have labels 1..K.
        class_names: of classes 0..C, background first.
        protocols: the protocols to score.
        resamples: number of resamples of the images, for intervals; 0: none.
        seed: of the resampling.
        agnostic_drawn: :func:`~maskdistill.evaluation.ap_bootstrap.resampled_ap` of all these images
            regardless of class, if already known.

    Returns:
        ``instance_matching {cluster 1..K: class id or None}, images_without_detections`` and ``protocols
        {name: {ap, ap50, ap75, ap_small .. ar_large, images, objects, classes {class name: {ap, ap50, ap75}},
        intervals {ap, ap50, ap75, ar_100}}}`` with the images and objects (without crowd regions) that count;
        ``classes`` is empty for agnostic ones.
    """
    matching = match_instances(count_pairs(images, num_clusters, len(class_names) - 1))
    named = [with_classes(image, matching) for image in images]
    scores: dict[str, ProtocolScore] = {}
    for protocol in PROTOCOLS:
        if protocol in protocols:
            categories, _, objects = protocol.partition("_")
            # single selects regardless of class, so it comes before detections of unmatched clusters are
            # dropped.
            taken = [
                image if objects == "multi" else single(image, objects == "single_strict") for image in named
            ]
            chosen = [image for image in taken if image is not None]
            agnostic = categories == "agnostic"
            drawn: Mapping[str, Floats] = {}
            if resamples:
                known = agnostic_drawn if protocol == "agnostic_multi" else None
                drawn = resampled_ap(chosen, agnostic, resamples, seed) if known is None else known
            bounds = {name: [100 * bound for bound in interval(values)] for name, values in drawn.items()}
            scores[protocol] = _score(chosen, class_names, agnostic, bounds)
    return {
        "instance_matching": {
            str(cluster): None if label == UNMATCHED else int(label)
            for cluster, label in enumerate(matching, start=1)
        },
        "images_without_detections": sum(not image.scores.size for image in images),
        "protocols": scores,
    }


def with_classes(image: ImageInstances, matching: Integers) -> ImageInstances:
    """Detections labelled by the class of their cluster, -1 without one."""
    return replace(image, labels=matching[image.labels - 1])


def _score(
    images: Sequence[ImageInstances],
    class_names: Sequence[str],
    class_agnostic: bool,
    intervals: dict[str, list[float]],
) -> ProtocolScore:
    result = average_precision(images, class_agnostic)
    score: Mapping[str, object] = {
        **_named(STATS, result.stats),
        "intervals": intervals,
        "images": len(images),
        "objects": sum(int((~image.crowd).sum()) for image in images),
        "classes": {
            class_names[label]: _named(STATS[:3], values) for label, values in result.by_class.items()
        },
    }
    return cast(ProtocolScore, score)  # its keys are STATS and the following


def _named(names: Sequence[str], values: Floats) -> Mapping[str, float | None]:
    return {name: percent(value) for name, value in zip(names, values.tolist(), strict=True)}
