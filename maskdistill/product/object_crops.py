"""Crops of a sample of each category's objects: every picture is read once, and few are in memory."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskdistill.data.images import load_rgb
from maskdistill.formats.export.records import ObjectRecord, Picture
from maskdistill.report.masks import pick_evenly
from maskdistill.report.montage import VEIL, Rgb, fit
from maskdistill.runtime.background import in_order
from maskdistill.runtime.errors import MaskDistillError

MARGIN = 0.12
"""What is shown around an object, as a share of its longer side: as on its thumbnail."""


class Crop(NamedTuple):
    """An object's category, 1..K, and its surroundings, uint8 (side, side, 3)."""

    category: int
    pixels: Rgb


class _Wanted(NamedTuple):
    """A picture's file, its height and width, and those of its objects that are in the sample."""

    source: Path
    size: tuple[int, int]
    objects: list[ObjectRecord]


def sample(categories: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Which objects are looked at: of each category at most so many, at even steps.

    Args:
        categories: (n,) of all objects in the order of their pictures.
        most: of each category, at least 1.

    Returns:
        bool (n,); the same for the same categories.
    """
    chosen = np.zeros(len(categories), dtype=bool)
    for category in np.unique(categories):
        (places,) = np.nonzero(categories == category)
        chosen[places[pick_evenly(most, len(places))]] = True
    return chosen


def square(photo: Rgb, box: tuple[float, float, float, float], side: int) -> Rgb:
    """The square around a box, :data:`MARGIN` wider on each side and mid-grey beyond the photo.

    It is scaled before it is made square, so that a panorama's is no larger than the panorama.

    Args:
        photo: (H, W, 3).
        box: x, y, width, height in pixels, inside the photo.
        side: of the result.

    Returns:
        uint8 (side, side, 3).
    """
    height, width = photo.shape[:2]
    x, y, wide, high = map(int, box)
    extent = max(1, round(max(wide, high) * (1 + 2 * MARGIN)))
    left, top = (2 * x + wide - extent) // 2, (2 * y + high - extent) // 2
    inner = photo[max(0, top) : min(height, top + extent), max(0, left) : min(width, left + extent)]
    scale = side / extent
    longer = max(1, round(max(inner.shape[:2]) * scale))
    scaled = fit(Image.fromarray(inner), longer)
    canvas = np.full((side, side, 3), int(VEIL), dtype=np.uint8)
    down = min(round(max(0, -top) * scale), side - scaled.shape[0])
    right = min(round(max(0, -left) * scale), side - scaled.shape[1])
    canvas[down : down + scaled.shape[0], right : right + scaled.shape[1]] = scaled
    return canvas


def crops(
    pictures: Iterator[Picture], chosen: NDArray[np.bool_], side: int, threads: int = 1
) -> Iterator[Crop]:
    """Crops of the chosen objects, picture by picture; pictures without one are not opened.

    Args:
        pictures: with all their objects.
        chosen: bool (n,) of all these objects in order, see :func:`sample`.
        side: of the crops, in pixels.
        threads: pictures that are decoded at once.

    Raises:
        MaskDistillError: a picture cannot be read any more, or has another size than it had in the run.
    """
    for wanted, photo in in_order(_load, _wanted(pictures, chosen), threads):
        for item in wanted.objects:
            yield Crop(item.category_id, square(photo, item.box, side))


def _wanted(pictures: Iterator[Picture], chosen: NDArray[np.bool_]) -> Iterator[_Wanted]:
    marks = iter(chosen.tolist())
    for picture in pictures:
        own = zip(picture.objects, islice(marks, len(picture.objects)), strict=True)
        if objects := [item for item, one in own if one]:
            yield _Wanted(picture.source, (picture.height, picture.width), objects)


def _load(wanted: _Wanted) -> tuple[_Wanted, Rgb]:
    photo = np.asarray(load_rgb(wanted.source))
    if photo.shape[:2] != wanted.size:
        raise MaskDistillError(
            f"{wanted.source}: was replaced since the run: it has {photo.shape[1]} x {photo.shape[0]} pixels "
            f"instead of {wanted.size[1]} x {wanted.size[0]}; put the former picture back, or run the "
            "workflow again"
        )
    return wanted, photo
