"""Outlines of masks: exact, or with few vertices for correction by hand.

An exact outline runs a quarter of a pixel inside the pixels' edges. The centre of every pixel of the mask is
inside and all other centres are outside, which is the rule by which COCO's and most tools fill. Rounded down
to whole pixels and filled including its edge, as OpenCV does, it gives the same mask.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from maskdistill.formats import rle
from maskdistill.formats.rle import RLE

Mask: TypeAlias = npt.NDArray[np.bool_]
Ring: TypeAlias = npt.NDArray[np.float64]
"""Vertices (n, 2) as x, y in pixels, not closed; (0, 0) is the upper left corner of the picture."""
LEAST_IOU = 0.98
"""Lowest IoU of a filled, simplified outline with its mask."""
FINER = 1.5
"""Factor by which the tolerance is reduced until the outline is close enough."""
FINEST = 0.4
"""Tolerance in pixels below which simplification saves next to nothing, so the outline stays exact."""


@dataclass(frozen=True)
class Part:
    """A connected part of a mask: its outer outline and the outlines of its holes."""

    outer: Ring
    holes: tuple[Ring, ...]


def outlines(
    mask: RLE, simplify: float = 0.0, enough: Callable[[list[Part]], bool] | None = None
) -> list[Part]:
    """The outlines of a mask, one part after the other.

    Args:
        mask: run lengths.
        simplify: tolerance of Douglas and Peucker in pixels. For each object it is divided by 1.5 until the
            outline is close enough to the mask; specks and holes that are smaller than it vanish.
        enough: whether simplified parts are close enough; by default their IoU, filled as by COCO's tools,
            must be at least :data:`LEAST_IOU`.
    """
    exact = _exact(mask)
    near = enough or (lambda parts: _near(parts, mask))
    while simplify >= FINEST:
        parts = _simplified(exact, simplify)
        if parts and near(parts):
            return parts
        simplify /= FINER
    return exact


def _exact(mask: RLE) -> list[Part]:
    x, y, width, height = (int(value) for value in rle.bbox(mask))
    cut = rle.decode(mask)[y : y + height, x : x + width]
    doubled = np.repeat(np.repeat(cut.astype(np.uint8), 2, axis=0), 2, axis=1)
    found, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return []
    rings = [(contour[:, 0].astype(np.float64) + 0.5) / 2 + (x, y) for contour in found]
    parents = np.asarray(hierarchy)[0, :, 3].tolist()
    holes: dict[int, list[Ring]] = {}
    for ring, parent in zip(rings, parents, strict=True):
        if parent >= 0:
            holes.setdefault(parent, []).append(ring)
    return [Part(ring, tuple(holes.get(place, ()))) for place, ring in enumerate(rings) if parents[place] < 0]


def _simplified(parts: Sequence[Part], tolerance: float) -> list[Part]:
    def few(ring: Ring) -> Ring:
        kept: Ring = cv2.approxPolyDP(ring.astype(np.float32), tolerance, True)[:, 0].astype(np.float64)
        return kept

    fewer = [Part(few(part.outer), tuple(map(few, part.holes))) for part in parts]
    return [
        Part(part.outer, tuple(hole for hole in part.holes if len(hole) > 2))
        for part in fewer
        if len(part.outer) > 2
    ]


def _near(parts: Sequence[Part], mask: RLE) -> bool:
    filled = coco_mask.merge(coco_mask.frPyObjects([*map(flat, map(with_cuts, parts))], *mask["size"]))
    return bool(rle.iou([filled], [mask], np.zeros(1, bool))[0, 0] >= LEAST_IOU)


def with_cuts(part: Part) -> Ring:
    """A part as one ring, for formats without holes.

    A hole is joined to its outline by a cut that is traversed in both directions and encloses nothing.
    """
    ring = part.outer
    for hole in part.holes:
        ring = join(ring, hole)
    return ring


def as_one(parts: Sequence[Part]) -> Ring:
    """All parts as one ring, for formats with one ring per object: joined like holes, at their nearest
    vertices.
    """
    ring = with_cuts(parts[0])
    for part in parts[1:]:
        ring = join(ring, with_cuts(part))
    return ring


def join(ring: Ring, other: Ring) -> Ring:
    """One closed walk around ``ring``, over the shortest cut between vertices to ``other``, around it and
    back.
    """
    distance = ((ring[:, None] - other[None]) ** 2).sum(axis=2)
    i, j = np.unravel_index(int(distance.argmin()), distance.shape)
    around = np.concatenate([other[j:], other[: j + 1]])
    return np.concatenate([ring[: i + 1], around, ring[i:]])


def flat(ring: Ring) -> list[float]:
    """``[x1, y1, x2, y2, ...]``, rounded to hundredths of a pixel."""
    return [float(value) for value in ring.round(2).ravel()]


def polygons(mask: RLE, simplify: float = 0.0) -> list[list[float]]:
    """Outlines as COCO polygons, one per part, with cuts to the holes: each ``[x1, y1, x2, y2, ...]``, in
    pixels.
    """
    return [flat(with_cuts(part)) for part in outlines(mask, simplify)]


def with_visible_cuts(parts: Sequence[Part], mask: RLE) -> RLE:
    """Parts joined to one ring and filled as Ultralytics fills: vertices rounded down, edge included, so that
    the cuts between parts are a pixel wide.

    Args:
        parts: outlines of the mask, exact or simplified.
        mask: gives the picture's size.
    """
    filled = np.zeros(mask["size"], dtype=np.uint8)
    cv2.fillPoly(filled, [as_one(parts).astype(np.int32)], 1)
    return rle.encode(filled.astype(bool))
