"""Label maps of a picture's objects, for formats that store masks as images."""

import numpy as np
import numpy.typing as npt

from maskdistill.formats import rle
from maskdistill.formats.export.records import Picture
from maskdistill.runtime.errors import MaskDistillError

MOST = 254
"""Number of values of an 8-bit map, without background and 255, which means void."""
LabelMap = npt.NDArray[np.uint8]


def label_maps(picture: Picture) -> tuple[LabelMap, LabelMap]:
    """Category and object of every pixel, uint8 (H, W) each; 0 is background.

    Objects are numbered from 1 in their order. Where two overlap, the more confident one is seen.

    Raises:
        MaskDistillError: more objects, or a category beyond, :data:`MOST`.
    """
    if len(picture.objects) > MOST or any(item.category_id > MOST for item in picture.objects):
        raise MaskDistillError(
            f"{picture.file}: {len(picture.objects)} objects; label maps hold {MOST} objects and categories: "
            "raise --min-score or --min-area, or take a format with run lengths (coco)"
        )
    categories = np.zeros((picture.height, picture.width), dtype=np.uint8)
    objects = np.zeros_like(categories)
    for number, item in reversed([*enumerate(picture.objects, start=1)]):
        mask = rle.decode(item.mask)
        categories[mask], objects[mask] = item.category_id, number
    return categories, objects
