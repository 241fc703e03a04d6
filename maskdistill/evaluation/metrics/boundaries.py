"""Boundary IoU (Cheng et al. 2021, arXiv 2103.16562): IoU of pixels within d of the contours."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from maskdistill.evaluation.metrics.registry import Family, Floats, Labels, Metric, View, summed
from maskdistill.evaluation.semantic import FLOOR, IGNORE, confusion_matrix

METRIC = Metric(
    "boundary_iou",
    "boundary IoU",
    20,
    meaning="mIoU of the pixels near outlines alone: how well the edges are drawn.",
)
WIDTH = 0.02
"""d as a share of the image's diagonal."""


def boundary_width(shape: tuple[int, int]) -> int:
    """d in pixels of an image of ``(height, width)``, at least 1."""
    return max(1, round(WIDTH * float(np.hypot(*shape))))


def boundary_bands(labels: Labels, width: int) -> npt.NDArray[np.bool_]:
    """Pixels of each region within ``width`` of another label or of the image's edge, in chessboard distance.

    As in the authors' code, the edge counts as a contour.

    Args:
        labels: integers (H, W) in 0..255.
        width: d in pixels.

    Returns:
        bool (H, W).
    """
    sides = (width,) * 4
    padded = cv2.copyMakeBorder(labels.astype(np.int16), *sides, cv2.BORDER_CONSTANT, value=-1)
    window = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    inner = (slice(width, -width), slice(width, -width))
    differs: npt.NDArray[np.bool_] = (cv2.erode(padded, window) != cv2.dilate(padded, window))[inner]
    return differs


def boundary_counts(predicted: Labels, target: Labels, num_classes: int) -> npt.NDArray[np.int64]:
    """Number of pixels, by class, in the bands of both maps and in the band of either, for one image.

    Pixels whose target is 255 are left out of both maps, so their surroundings are a contour in both.

    Args:
        predicted: integers (H, W), classes 0..G-1 by the matching, or G for a label without a class.
        target: integers (H, W) in 0..G-1, or 255.
        num_classes: G, classes and background.

    Returns:
        int64 (2, G): intersection and union.
    """
    width = boundary_width((target.shape[0], target.shape[1]))
    ignored = target == IGNORE
    shown = np.where(ignored, np.uint8(IGNORE), predicted)
    outside = np.uint8(num_classes)
    found = np.where(boundary_bands(shown, width) & ~ignored, shown, outside)
    wanted = np.where(boundary_bands(target, width) | ignored, target, outside)
    shared = confusion_matrix(found, wanted, num_classes + 1, num_classes + 1)
    both = shared.diagonal()[:-1]
    return np.stack([both, shared.sum(axis=1)[:-1] + shared.sum(axis=0)[:-1] - both])


def of_image(view: View) -> list[list[int]] | None:
    """:func:`boundary_counts`; None without a true map."""
    if not view.image.has_semantic:
        return None
    counts: list[list[int]] = boundary_counts(view.classes, view.target, view.setting.shape[1]).tolist()
    return counts


def mean(sums: Floats) -> Sequence[float]:
    """Mean over all G classes of summed counts (2, G); an absent class counts as 0."""
    intersection, union = sums
    return [float((intersection / np.maximum(union, FLOOR)).mean())]


FAMILY = Family(
    (METRIC,),
    "boundary IoU likewise, of the pixels within 2 % of the diagonal from a contour",
    of_image,
    summed((METRIC,), mean, intervals=False),
    matched=True,
)
