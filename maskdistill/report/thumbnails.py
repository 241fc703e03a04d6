"""Small pictures of a run's objects on sheets: which are shown, where, and how."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from maskdistill.formats.export.outlines import Ring, outlines
from maskdistill.formats.export.records import ObjectRecord
from maskdistill.formats.rle import RLE
from maskdistill.report.masks import pick_evenly
from maskdistill.report.montage import Rgb
from maskdistill.runtime.types import Provenance

ACROSS = 8
"""Thumbnails in a row of a sheet, and rows of it: a browser that shows dozens of sheets decodes a few hundred
MB.
"""
PER_SHEET = ACROSS * ACROSS
SAMPLED = 5
"""Of objects that are too many, one in so many of those that are shown is a sample of the less confident
ones.
"""
STEPS = 512
"""Steps of an outline's grid along the longer side of its box."""
COARSE, FINE = 0.006, 0.75
"""By how much an outline may leave the mask's: as a share of that side, and no less than so many pixels."""


class ObjectColumns(TypedDict):
    """Objects in the order of their thumbnails, a value each.

    Attributes:
        category: 1..K.
        score: to four digits.
        picture: place in :class:`PictureColumns`.
        area: pixels of the mask.
        box: its own box, four values an object: x, y, width, height in pixels.
        outline: SVG path, relative to the box's corner, in steps of its longer side / :data:`STEPS`.
    """

    category: list[int]
    score: list[float]
    picture: list[int]
    area: list[int]
    box: list[int]
    outline: list[str]


class PictureColumns(TypedDict):
    """Pictures with an object that is shown, a value each.

    Attributes:
        name: of the file, below the folder of photographs.
        link: its address relative to the run's folder; empty for a picture that is no file of its own.
        size: width and height in pixels, two values a picture.
    """

    name: list[str]
    link: list[str]
    size: list[int]


class ThumbnailsRecord(TypedDict):
    """``objects_page/objects.json``.

    Attributes:
        objects, pictures: what is shown.
        side: of a thumbnail, in pixels.
        across: thumbnails in a row of a sheet.
        per_sheet: thumbnails on a sheet; the first lies in the upper left corner of ``sheet-0001.jpg``.
        found: objects that passed the threshold, shown or not.
        sampled: of those that are shown, how many are a sample of the less confident ones.
        looked_at, empty: pictures of the run, and those of them without an object.
        tau, compare: the threshold, and whether a score that equals it passes.
        provenance: what they were made from.
    """

    objects: ObjectColumns
    pictures: PictureColumns
    side: int
    across: int
    per_sheet: int
    found: int
    sampled: int
    looked_at: int
    empty: int
    tau: float
    compare: str
    provenance: Provenance


def sheet_name(number: int) -> str:
    """File of the sheet 0, 1, ...: ``sheet-0001.jpg`` is the first."""
    return f"sheet-{number + 1:04d}.jpg"


def sample_size(found: int, most: int) -> int:
    """How many of ``most`` shown objects sample the less confident of ``found`` ones."""
    return most // SAMPLED if found > most else 0


def choose(scores: NDArray[np.float64], most: int) -> NDArray[np.bool_]:
    """Which objects are shown: all, or the most confident ones and at even steps some of the others.

    Args:
        scores: (n,) of all objects in the order of their pictures; of equal ones the first are the more
            confident.
        most: how many are shown, at least 1.

    Returns:
        bool (n,), true for ``min(n, most)``; a fifth of them (:data:`SAMPLED`) is the sample.
    """
    if len(scores) <= most:
        return np.ones(len(scores), dtype=bool)
    sampled = sample_size(len(scores), most)
    order = np.argsort(-scores, kind="stable")
    others = np.sort(order[most - sampled :])
    shown = np.zeros(len(scores), dtype=bool)
    shown[order[: most - sampled]] = True
    shown[others[pick_evenly(sampled, len(others))]] = True
    return shown


def places(categories: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place of each thumbnail, int64 (n,) of 0..n-1: by category, most confident first.

    What is looked at together then lies on few sheets.
    """
    found = np.empty(len(scores), dtype=np.int64)
    found[np.lexsort((-scores, categories))] = np.arange(len(scores))
    return found


def sheet(tiles: NDArray[np.uint8]) -> Rgb:
    """Up to :data:`PER_SHEET` thumbnails (n, side, side, 3), row by row on a black sheet."""
    count, side = tiles.shape[:2]
    rows = -(-count // ACROSS)
    full = np.zeros((rows * ACROSS, *tiles.shape[1:]), dtype=np.uint8)
    full[:count] = tiles
    grid = full.reshape(rows, ACROSS, side, side, 3).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(rows * side, ACROSS * side, 3))


def whole_box(item: ObjectRecord) -> tuple[int, int, int, int]:
    """An object's own box in whole pixels: x, y, width, height."""
    x, y, width, height = (int(value) for value in item.box)
    return x, y, width, height


def outline_path(mask: RLE, box: Sequence[int]) -> str:
    """A mask's outlines and those of its holes as an SVG path; see :attr:`ObjectColumns.outline`.

    Args:
        mask: with at least one pixel.
        box: x, y, width, height of the mask.
    """
    longer = max(box[2:])
    parts = outlines(mask, max(FINE, COARSE * longer), enough=bool)
    rings = [ring for part in parts for ring in (part.outer, *part.holes)]
    return "".join(_closed((ring - box[:2]) * STEPS / longer) for ring in rings)


def _closed(ring: Ring) -> str:
    """``M1 2l3-4 5 6z``: from the first vertex, relative steps of whole numbers."""
    points = ring.round().astype(int)
    moved = np.diff(points, axis=0)
    steps = " ".join(f"{x} {y}" for x, y in moved[moved.any(axis=1)].tolist()).replace(" -", "-")
    return f"M{points[0, 0]} {points[0, 1]}l{steps}z" if steps else ""
