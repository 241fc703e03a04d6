"""COCO segmentations checked, then painted: pycocotools never sees a number that it was not made for.

It crashes on polygons that reach far out of their picture, takes memory by their length, and wraps negative
runs.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from maskdistill.data.coco_file import whole
from maskdistill.data.truth_types import Place
from maskdistill.formats import rle
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.user_files import shown

REACH = 10
"""Coordinates may lie so many longest sides outside of the picture."""
LONGEST_OUTLINE = 4_000_000
"""Pixels along one polygon: pycocotools takes 45 bytes for each."""

Polygon = npt.NDArray[np.float64]
Size = tuple[int, int]


class Mask(NamedTuple):
    """A checked segmentation.

    Attributes:
        polygons: float64 (2 N,) each, N >= 3 points as x, y in pixels.
        runs: RLEs of the picture's size, compressed.
        short: number of polygons that were left out for having fewer than three points.
    """

    polygons: list[Polygon]
    runs: list[rle.RLE]
    short: int

    @property
    def empty(self) -> bool:
        """Whether nothing of the segmentation is left."""
        return not self.polygons and not self.runs


def reach(size: Size) -> float:
    """How far from 0 a coordinate in a picture (height, width) may lie."""
    return float(REACH * max(size))


def parse_mask(value: Any, size: Size, place: Place) -> Mask:
    """Check ``segmentation``: polygons, a flat polygon, an RLE, or a list; None and [] mean no mask.

    Args:
        size: height and width of the picture.

    Raises:
        MaskDistillError: anything else; numbers that are not finite or far outside; an RLE that does not
            cover the picture exactly.
    """
    mask = Mask([], [], 0)
    short = 0
    for field, part in _parts(value, place):
        if isinstance(part, dict):
            mask.runs.append(_run_lengths(part, size, place, field))
            continue
        polygon = _polygon(part, size, place, field)
        if polygon.size < 6:
            short += 1
        else:
            mask.polygons.append(polygon)
    return mask._replace(short=short)


def paint_mask(mask: Mask, size: Size) -> rle.RLE | None:
    """The union of a mask's parts as one RLE; None for no mask."""
    if mask.empty:
        return None
    parts = (
        [*coco_mask.frPyObjects([polygon.tolist() for polygon in mask.polygons], *size)]
        if mask.polygons
        else []
    )
    encoded = coco_mask.merge([*parts, *({**part, "counts": part["counts"].encode()} for part in mask.runs)])
    return rle.encode(rle.decode(encoded))


def holds_pixels(mask: Mask, size: Size) -> bool:
    """Whether a mask has any pixel of a picture (height, width); mostly one polygon is enough to tell."""
    outlines = (coco_mask.frPyObjects([polygon.tolist()], *size) for polygon in mask.polygons)
    return any(map(rle.area, mask.runs)) or any(coco_mask.area(drawn)[0] for drawn in outlines)


def _parts(value: Any, place: Place) -> list[tuple[str, Any]]:
    """Polygons and RLEs of a segmentation, with the fields where they stand."""
    name = "segmentation"
    if value is None:
        return []
    if isinstance(value, dict):
        return [(name, value)]
    if not isinstance(value, list):
        raise place.wrong(f"{name} is {shown(value)}, neither polygons nor an RLE")
    if value and not any(isinstance(part, list | dict) for part in value):
        return [(name, value)]
    if len(value) > 2 and all(isinstance(part, list) and len(part) == 2 for part in value):
        return [(name, value)]
    return [(f"{name}[{index}]", part) for index, part in enumerate(value)]


def _polygon(values: Any, size: Size, place: Place, field: str) -> Polygon:
    """Coordinates x1, y1, x2, y2, ...; also given as points [x, y]."""
    if (
        isinstance(values, list)
        and values
        and all(isinstance(point, list) and len(point) == 2 for point in values)
    ):
        values = [number for point in values for number in point]
    if not isinstance(values, list):
        raise place.wrong(f"{field} is {shown(values)}, neither a polygon nor an RLE")
    if not set(map(type, values)) <= {int, float}:
        strange = next(number for number in values if type(number) not in (int, float))
        raise place.wrong(f"{field} holds {shown(strange)}, not a number")
    if len(values) % 2:
        raise place.wrong(f"{field} has {len(values)} coordinates, an odd number")
    limit = reach(size)
    try:
        polygon = np.array(values, dtype=np.float64)
        inside = bool((np.abs(polygon) <= limit).all())
    except OverflowError:  # an integer that no float64 can hold
        inside = False
    if not inside:
        outside = next(number for number in values if not -limit <= number <= limit)
        raise place.wrong(f"{field} holds {shown(outside)}, outside of {-limit:g} to {limit:g}")
    if len(values) * limit > LONGEST_OUTLINE and (length := _length(polygon)) > LONGEST_OUTLINE:
        raise place.wrong(f"{field} is {length:.0f} pixels long, more than {LONGEST_OUTLINE}")
    return polygon


def _length(polygon: Polygon) -> float:
    """Pixels along an outline, each side by the longer of its extents, as it is drawn."""
    points = polygon.reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def _run_lengths(values: dict[str, Any], size: Size, place: Place, field: str) -> rle.RLE:
    """An RLE of the picture's size, compressed; its runs cover the picture exactly."""
    stated = values.get("size", list(size))
    if not isinstance(stated, list) or len(stated) != 2:
        raise place.wrong(f"{field}.size is {shown(stated)}, not [height, width]")
    if tuple(whole(side, place, f"{field}.size", 0, 1 << 31) for side in stated) != size:
        raise place.wrong(f"{field}.size is {shown(stated)}, its image has {list(size)}")
    counts = values.get("counts")
    if isinstance(counts, list):
        return _compressed(counts, size, place, f"{field}.counts")
    if not isinstance(counts, str) or not counts.isascii():
        raise place.wrong(f"{field}.counts is {shown(counts)}, neither run lengths nor their compressed text")
    encoded: rle.RLE = {"size": list(size), "counts": counts}
    try:
        rle.runs([encoded])
    except MaskDistillError:
        raise place.wrong(f"{field}.counts does not cover its image") from None
    return encoded


def _compressed(counts: list[Any], size: Size, place: Place, field: str) -> rle.RLE:
    pixels = size[0] * size[1]
    for count in counts:
        if type(count) not in (int, float) or not 0 <= count <= pixels or count != int(count):
            raise place.wrong(f"{field} holds {shown(count)}, not a number of pixels")
    if sum(counts) != pixels:
        raise place.wrong(f"{field} does not cover its image: {sum(counts):.0f} pixels of {pixels}")
    encoded = coco_mask.frPyObjects({"size": list(size), "counts": [int(count) for count in counts]}, *size)
    return {"size": list(size), "counts": encoded["counts"].decode("ascii")}
