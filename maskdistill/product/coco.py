"""Detections of new pictures as COCO annotations, with run lengths or with polygons."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from maskdistill.config import Compare
from maskdistill.formats import rle
from maskdistill.pseudo_labels.confidence import passes


def coco_annotations(
    candidates: Iterable[Mapping[str, Any]], min_score: float, first_id: int = 1, compare: Compare = "ge"
) -> Iterator[dict[str, Any]]:
    """COCO annotations of the candidates that are confident enough, in their order.

    Args:
        candidates: records of the candidates stage.
        min_score: threshold on the score.
        first_id: id of the first annotation.
        compare: whether a score that equals the threshold is kept.

    Yields:
        Annotations with the detector's score; box and area are the mask's own, so that they fit each other.
    """
    for candidate in candidates:
        if not passes(candidate["score"], min_score, compare):
            continue
        segmentation = candidate["segmentation"]
        yield {
            "id": first_id,
            "image_id": candidate["image_id"],
            "category_id": candidate["category_id"],
            "bbox": rle.bbox(segmentation),
            "area": rle.area(segmentation),
            "segmentation": segmentation,
            "iscrowd": 0,
            "score": candidate["score"],
        }
        first_id += 1


def polygons(mask: npt.NDArray[np.bool_]) -> list[list[float]]:
    """Outlines of a mask as COCO polygons, one a connected part; filled again they give the mask, pixel for pixel.

    The outline runs a quarter of a pixel inside the pixels' edges, so that the centre of every pixel of the mask is
    inside and of every other one outside. COCO polygons know no holes: a hole is joined to its outline by a cut that
    is walked in both directions, which encloses nothing.

    Args:
        mask: bool (H, W).

    Returns:
        ``[x1, y1, x2, y2, ...]`` each, in pixels; the upper left corner of the picture is (0, 0).
    """
    doubled = np.repeat(np.repeat(mask.astype(np.uint8), 2, axis=0), 2, axis=1)
    found, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return []
    contours = [(contour[:, 0].astype(np.float64) + 0.5) / 2 for contour in found]
    parents = np.asarray(hierarchy)[0, :, 3].tolist()
    outlines = []
    for index, parent in enumerate(parents):
        if parent < 0:
            ring = contours[index]
            for hole in (contours[child] for child, owner in enumerate(parents) if owner == index):
                ring = _join(ring, hole)
            outlines.append([float(value) for value in ring.ravel()])
    return outlines


def _join(ring: npt.NDArray[np.float64], hole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One closed walk (n, 2) around ``ring``, over the shortest cut to ``hole``, around it and back."""
    distance = ((ring[:, None] - hole[None]) ** 2).sum(axis=2)
    i, j = np.unravel_index(int(distance.argmin()), distance.shape)
    around = np.concatenate([hole[j:], hole[: j + 1]])
    return np.concatenate([ring[: i + 1], around, ring[i:]])
