"""What is painted of a candidate instead of its mask, for the ablation of label types [P Table S1]."""

import numpy as np
import numpy.typing as npt

from maskdistill.detector.types import Found
from maskdistill.formats import rle
from maskdistill.formats.rle import RLE
from maskdistill.masks.grabcut import grabcut

GRABCUT_ITERATIONS = 5


def box_region(candidate: Found) -> RLE:
    """The candidate's box: rows round(y)..round(y+h) and columns round(x)..round(x+w), both ends included.

    Halves are rounded to even, and what lies outside the image is cut off [method §6.6].
    """
    height, width = candidate["segmentation"]["size"]
    x, y, w, h = candidate["bbox"]
    mask = np.zeros((height, width), dtype=bool)
    mask[max(0, round(y)) : max(0, round(y + h) + 1), max(0, round(x)) : max(0, round(x + w) + 1)] = True
    return rle.encode(mask)


def grabcut_region(candidate: Found, photo: npt.NDArray[np.uint8]) -> RLE:
    """GrabCut (Rother et al. 2004) started from the candidate's box, x, y, w and h rounded half up.

    Five iterations; foreground is what OpenCV calls certain or probable foreground. Empty where OpenCV
    refuses, as it does without any pixel outside or inside the box [method §6.6].

    Args:
        candidate: ``bbox`` xywh in pixels.
        photo: uint8 (H, W, 3).
    """
    labels = np.zeros(photo.shape[:2], dtype=np.uint8)
    x, y, w, h = (int(value + 0.5) for value in candidate["bbox"])
    return rle.encode(grabcut(photo, labels, GRABCUT_ITERATIONS, (x, y, w, h)))
