"""Single-object localisation: CorLoc, as in LOST (arXiv 2109.14279).

A box is ``[x, y, width, height]`` in pixels and covers ``[x, x + width) x [y, y + height)``: the pixel in
column c and row r is the box ``[c, r, 1, 1]``. PASCAL VOC's one-based inclusive corners become ``[xmin - 1,
ymin - 1, xmax - xmin + 1, ymax - ymin + 1]``. There is no further "+ 1" in the areas.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]


def box_iou(first: npt.ArrayLike, second: npt.ArrayLike) -> Boxes:
    """IoU of all pairs of boxes.

    Args:
        first: (N, 4) xywh in pixels.
        second: (M, 4) xywh in pixels.

    Returns:
        float64 (N, M) in [0, 1]; 0 for two boxes without area.
    """
    a = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - intersection
    iou: Boxes = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return iou


def corloc_hits(
    predicted: Sequence[npt.ArrayLike | None], truth: Sequence[npt.ArrayLike], threshold: float = 0.5
) -> npt.NDArray[np.bool_]:
    """Whether each image's predicted box overlaps any of its objects well enough.

    CorLoc is the mean of the result.

    Args:
        predicted: per image one box (4,) xywh, the top-scoring one, or None (a miss).
        truth: per image the ground-truth boxes (M, 4) xywh.
        threshold: least IoU of a hit.

    Returns:
        bool (n,).
    """
    hits = [
        box is not None and bool((box_iou(box, boxes) >= threshold).any())
        for box, boxes in zip(predicted, truth, strict=True)
    ]
    return np.array(hits, dtype=np.bool_)


def largest_component_box(labels: npt.NDArray[np.integer]) -> Boxes | None:
    """Tight box of the largest 4-connected region that carries one and the same non-zero label.

    Args:
        labels: integers (H, W), 0 is background.

    Returns:
        float64 (4,) xywh in pixels, or None without foreground. Of equally large regions the one with the
        lowest label wins, then the first in reading order.
    """
    best: Boxes | None = None
    best_area = 0
    pixels = np.bincount(labels.ravel())
    for label in np.flatnonzero(pixels[1:]) + 1:
        if pixels[label] <= best_area:
            continue
        region = (labels == label).astype(np.uint8)
        left, top, width, height = cv2.boundingRect(region)
        part = region[top : top + height, left : left + width]
        _, _, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=4)
        areas = stats[1:, cv2.CC_STAT_AREA]
        index = int(areas.argmax())
        if areas[index] > best_area:
            best_area = int(areas[index])
            best = stats[1 + index, : cv2.CC_STAT_AREA] + np.array([left, top, 0, 0], dtype=np.float64)
    return best
