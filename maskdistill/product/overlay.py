"""What the models see in a picture, side by side: the label map and the objects."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from maskdistill.formats import rle
from maskdistill.formats.export.records import ObjectRecord
from maskdistill.report.montage import (
    Rgb,
    candidate_tile,
    category_colors,
    fit,
    fit_labels,
    fit_mask,
    label_tile,
)

GAP = 4


def chosen_images(num_images: int, limit: int) -> set[int]:
    """Ids, of 1..num_images, of the pictures that get an overlay: at most ``limit``, spread evenly."""
    count = min(limit, num_images)
    return {1 + place * num_images // count for place in range(count)}


def overlay(
    photo: Image.Image, labels: Rgb, objects: Sequence[ObjectRecord], side: int, num_clusters: int
) -> Rgb:
    """The label map and, right of it, the objects over the photo, in the report's colours.

    Args:
        photo: at its full size.
        labels: uint8 (H, W) at the photo's size, 0 is background.
        objects: best first.
        side: longer side of each half in pixels.
        num_clusters: K.

    Returns:
        uint8 (h, 2 w + 4, 3).
    """
    small = fit(photo, side)
    height, width = small.shape[:2]
    scale = (width / photo.width, height / photo.height)
    boxes = [[value * scale[place % 2] for place, value in enumerate(item.box)] for item in objects]
    masks = [fit_mask(rle.decode(item.mask), (height, width)) for item in objects]
    colors = dict(enumerate(category_colors(num_clusters), start=1))
    left = label_tile(small, fit_labels(labels, (height, width)), colors)
    right = candidate_tile(
        small, boxes, masks, [item.score for item in objects],
        [colors[item.category_id] for item in objects], [True] * len(objects),
    )  # fmt: skip
    return np.concatenate([left, np.full((height, GAP, 3), 255, dtype=np.uint8), right], axis=1)
