"""Instance AP and AR over resampled images [P §A.4].

Detections are matched with objects only once, by COCO's rule; a resample only changes how often each image
counts, so AP and AR are computed from weighted counts. Integer weights give the scores of a set that contains
each image that many times (except for the order of equal scores within an image).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maskdistill.evaluation.bootstrap import image_weights
from maskdistill.evaluation.instances import Floats, ImageInstances, Integers

Flags = npt.NDArray[np.bool_]
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100
DRAWN = ("ap", "ap50", "ap75", "ar_100")
"""Scores of a resample, named as in :data:`maskdistill.evaluation.average_precision.STATS`."""


@dataclass(frozen=True)
class MatchedClass:
    """The detections of one class by descending score, equal scores in the order of the images, and its
    objects.

    Attributes:
        image: int64 (D,) place of each detection's image.
        right: bool (10, D) whether it finds an object at IoU 0.50, 0.55 ... 0.95.
        counted: bool (10, D) whether it counts; a detection in a crowd region does not.
        objects: int64 (n,) number of objects of each image, without crowd regions.
    """

    image: Integers
    right: Flags
    counted: Flags
    objects: Integers


def match_classes(images: Sequence[ImageInstances], class_agnostic: bool) -> list[MatchedClass]:
    """Match detections with objects of their own class, or of any class; classes without an object are left
    out.
    """
    classes = (
        [None] if class_agnostic else sorted({int(label) for image in images for label in image.true_labels})
    )
    return [found for label in classes if (found := _match_class(images, label)).objects.any()]


def _match_class(images: Sequence[ImageInstances], label: int | None) -> MatchedClass:
    places, scores, right, counted = [], [], [], []
    objects = np.zeros(len(images), dtype=np.int64)
    for place, image in enumerate(images):
        found = np.arange(image.scores.size) if label is None else np.flatnonzero(image.labels == label)
        true = (
            np.arange(image.true_labels.size) if label is None else np.flatnonzero(image.true_labels == label)
        )
        found = found[np.argsort(-image.scores[found], kind="stable")][:MAX_DETECTIONS]
        objects[place] = int((~image.crowd[true]).sum())
        hits, ignored = match_image(image.overlaps[np.ix_(found, true)], image.crowd[true])
        places.append(np.full(found.size, place))
        scores.append(image.scores[found])
        right.append(hits)
        counted.append(~ignored)
    order = np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")
    none = np.zeros((len(THRESHOLDS), 0), dtype=bool)
    return MatchedClass(
        np.concatenate([np.zeros(0, np.int64), *places])[order],
        np.concatenate([none, *right], axis=1)[:, order],
        np.concatenate([none, *counted], axis=1)[:, order],
        objects,
    )


def match_image(overlaps: Floats, crowd: Flags) -> tuple[Flags, Flags]:
    """COCO's greedy matching in one image at all thresholds.

    Each detection in turn takes the free object that it overlaps most, the last one on ties, or else a crowd
    region, which any number of detections may take.

    Args:
        overlaps: float64 (D, M), detections by descending score.
        crowd: bool (M,).

    Returns:
        bool (10, D) whether a detection took an object, and whether it took a crowd region.
    """
    hits = np.zeros((len(THRESHOLDS), len(overlaps)), dtype=bool)
    ignored = hits.copy()
    free = np.ones((len(THRESHOLDS), crowd.size), dtype=bool)
    steps = np.arange(len(THRESHOLDS))
    for detection in np.flatnonzero(overlaps.max(axis=1, initial=0) >= THRESHOLDS[0]):
        row = overlaps[detection]
        reached = row >= THRESHOLDS[:, None]
        wanted = np.where(reached & free & ~crowd, row, -1.0)
        best = crowd.size - 1 - wanted[:, ::-1].argmax(axis=1)
        took = wanted[steps, best] >= 0
        hits[:, detection] = took
        free[steps[took], best[took]] = False
        ignored[:, detection] = ~took & (reached & crowd).any(axis=1)
    return hits, ignored


def weighted_ap(classes: Sequence[MatchedClass], weights: Integers) -> Floats:
    """The scores of :data:`DRAWN` if each image counts as often as ``weights`` (n,) says: float64 (4,),
    fractions of 1.

    They are means over classes that have an object; NaN if none has.
    """
    values = []
    for item in classes:
        total = int(weights @ item.objects)
        if total:
            counts = weights[item.image]
            precision = _precision(item, counts, total)
            recall = (item.right & item.counted) @ counts / total
            values.append((precision.mean(), precision[0].mean(), precision[5].mean(), recall.mean()))
    return np.mean(values, axis=0) if values else np.full(len(DRAWN), np.nan)


def _precision(item: MatchedClass, weights: Integers, total: int) -> Floats:
    """Interpolated precision (10, 101) at COCO's recalls."""
    result = np.zeros((len(THRESHOLDS), len(RECALLS)))
    if not weights.any():
        return result
    right = np.cumsum(weights * (item.right & item.counted), axis=1)
    counted = np.cumsum(weights * item.counted, axis=1)
    recall = right / total
    precision = right / np.maximum(counted, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    for step in range(len(THRESHOLDS)):
        first = np.searchsorted(recall[step], RECALLS, side="left")
        reached = first < recall.shape[1]
        result[step, reached] = envelope[step, first[reached]]
    return result


def resampled_ap(
    images: Sequence[ImageInstances], class_agnostic: bool, resamples: int, seed: int
) -> dict[str, Floats]:
    """The scores of :data:`DRAWN` in each resample, float64 (resamples,) each, as fractions of 1.

    Empty if there is no object; NaN for a resample without one.

    Args:
        images: the images that count, each once, with detections labelled by class.
        class_agnostic: whether all detections and objects are of one category.
        resamples: number of resamples, at least 1.
        seed: of the resampling.
    """
    classes = match_classes(images, class_agnostic)
    if not classes:
        return {}
    values = [weighted_ap(classes, weights) for weights in image_weights(len(images), resamples, seed)]
    return dict(zip(DRAWN, np.transpose(values), strict=True))
