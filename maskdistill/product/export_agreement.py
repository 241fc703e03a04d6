"""How far the masks of an exported model are from those of ``predict``, picture by picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maskdistill.detector.types import Found
from maskdistill.formats import rle

LEAST_LABELS = 0.999
"""Share of the pixels that have to have ``predict``'s label."""
LEAST_OBJECTS = 0.99
"""Share of the objects that have to be ``predict``'s: of near-equal scores another may survive."""
PIXELS = 1.0
"""By how much a corner of a box may differ."""
SCORE = 0.01
AGAIN = 0.5
"""Box IoU of an object that is found again."""


@dataclass(frozen=True)
class Seen:
    """What is found in a picture.

    Attributes:
        labels: uint8 (H, W).
        objects: best first; None where nobody looked for any.
    """

    labels: npt.NDArray[np.uint8]
    objects: Sequence[Found] | None


@dataclass(frozen=True)
class Agreement:
    """Shares over all pictures, between 0 and 1.

    Attributes:
        pictures: how many were compared.
        labels, least_labels: share of the pixels with equal labels, of all pictures and of the worst one.
        foreground: IoU of what is not background, 1 where there is none.
        objects: how many were sought: of each picture the larger number of both sides; None where nobody
            looked.
        equal: of them, with equal category, every corner within :data:`PIXELS` and score within
            :data:`SCORE`.
        again: of them, with equal category and an overlap of the boxes of at least :data:`AGAIN`.
        mask_iou: mean IoU of the masks of equal objects; None without any.
    """

    pictures: int
    labels: float
    least_labels: float
    foreground: float
    objects: int | None
    equal: int
    again: int
    mask_iou: float | None

    @property
    def holds(self) -> bool:
        """Whether masks and boxes are ``predict``'s."""
        return self.labels >= LEAST_LABELS and self.equal >= LEAST_OBJECTS * (self.objects or 0)

    def sentence(self) -> str:
        """The figures in words."""
        text = (
            f"on {self.pictures} pictures {100 * self.labels:.3f} % of the pixels have predict's label (in "
            f"the worst one {100 * self.least_labels:.3f} %), the foreground has an IoU of "
            f"{self.foreground:.4f}"
        )
        if not self.objects:
            return text + ("; there are no objects to compare" if self.objects == 0 else "; label maps only")
        masks = "" if self.mask_iou is None else f", their masks a mean IoU of {self.mask_iou:.4f}"
        return (
            f"{text}; {self.equal} of {self.objects} objects are equal (every corner within {PIXELS:g} "
            f"pixel){masks}; {self.again} are found again (boxes with an IoU of at least {AGAIN:g})"
        )


def compare(expected: Sequence[Seen], found: Sequence[Seen]) -> Agreement:
    """Compare pictures, at least one, with what ``predict`` sees in them."""
    equal = [float((one.labels == other.labels).mean()) for one, other in zip(expected, found, strict=True)]
    pixels = np.array([one.labels.size for one in expected])
    both = either = 0
    for one, other in zip(expected, found, strict=True):
        both += int(((one.labels > 0) & (other.labels > 0)).sum())
        either += int(((one.labels > 0) | (other.labels > 0)).sum())
    pairs = [
        (one.objects, other.objects)
        for one, other in zip(expected, found, strict=True)
        if one.objects is not None and other.objects is not None
    ]
    counts = [_compare_objects(*pair) for pair in pairs]
    ious = [iou for _, _, found_ious in counts for iou in found_ious]
    return Agreement(
        pictures=len(expected),
        labels=float(np.average(equal, weights=pixels)),
        least_labels=min(equal),
        foreground=both / either if either else 1.0,
        objects=sum(max(map(len, pair)) for pair in pairs) if pairs else None,
        equal=sum(count for count, _, _ in counts),
        again=sum(count for _, count, _ in counts),
        mask_iou=float(np.mean(ious)) if ious else None,
    )


def _compare_objects(expected: Sequence[Found], found: Sequence[Found]) -> tuple[int, int, list[float]]:
    """Of ``expected`` how many are equal, how many are found again, and the mask IoU of each equal one."""
    if not expected or not found:
        return 0, 0, []
    first, second = _arrays(expected), _arrays(found)
    same = first[0][:, None] == second[0]
    corners = np.abs(first[2][:, None] - second[2]).max(axis=2)
    close = same & (corners <= PIXELS) & (np.abs(first[1][:, None] - second[1]) <= SCORE)
    again = same & (_overlap(first[2], second[2]) >= AGAIN)
    partners = np.where(close, corners, np.inf).argmin(axis=1)
    ious = [
        float(rle.iou([one["segmentation"]], [found[partner]["segmentation"]], np.zeros(1, bool))[0, 0])
        for one, partner, known in zip(expected, partners, close.any(axis=1), strict=True)
        if known
    ]
    return int(close.any(axis=1).sum()), int(again.any(axis=1).sum()), ious


def _arrays(
    objects: Sequence[Found],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Categories (n,), scores (n,) and boxes (n, 4) as x1, y1, x2, y2."""
    boxes = np.array([one["bbox"] for one in objects], dtype=np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return (
        np.array([one["category_id"] for one in objects]),
        np.array([one["score"] for one in objects]),
        boxes,
    )


def _overlap(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """IoU of boxes, (n, 4) and (m, 4) as x1, y1, x2, y2, float (n, m)."""
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return np.asarray(both / np.maximum(areas[0][:, None] + areas[1] - both, 1e-9))
