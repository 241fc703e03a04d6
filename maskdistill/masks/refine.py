"""Sharper outlines of patch masks from the photograph's colours; not in the paper."""

import cv2
import numpy as np
import numpy.typing as npt

from maskdistill.masks.grabcut import grabcut

Mask = npt.NDArray[np.bool_]
MAX_SIDE = 512
"""Longer side in pixels at which outlines are sought; larger photographs are scaled down for it."""
CERTAIN = 1.0
"""What lies so many patches inside of the mask is certain foreground."""
REACH = 1.0
"""What lies so many patches outside of the mask is certain background."""
SURROUNDINGS = 2.0
"""So many patches beyond that belong to the background whose colours are learned; the rest is not looked at.
"""
ITERATIONS = 2
MIN_IOU = 0.4
"""A refined mask that agrees less with the one it came from is dropped: it has run out, or collapsed."""


def refine(photo: npt.NDArray[np.uint8], mask: Mask, patch: float) -> Mask:
    """GrabCut started from a mask of patches.

    What is further inside than :data:`CERTAIN` patches is certain foreground, the rest of the mask probable
    foreground, a rim of :data:`REACH` patches around it probable background, and all else certain background.
    Of the result the connected part is kept that shares most pixels with the mask. The mask itself is
    returned where nothing is found, or something else than the mask (:data:`MIN_IOU`).

    Args:
        photo: uint8 (H, W, 3).
        mask: bool (H, W), at least one pixel.
        patch: side of a patch in pixels of the photograph.

    Returns:
        bool (H, W), at least one pixel.
    """
    height, width = mask.shape
    scale = min(1.0, MAX_SIDE / max(height, width))
    if scale == 1.0:
        return _refined(photo, mask, patch)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    if not small.any():
        return mask
    pixels = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
    found = _refined(pixels, small, patch * scale).astype(np.float32)
    full: Mask = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    return full if full.any() else mask


def _refined(photo: npt.NDArray[np.uint8], mask: Mask, patch: float) -> Mask:
    solid = mask.astype(np.uint8)
    grown = cv2.dilate(solid, _disc(max(1, round(REACH * patch))))
    inner = cv2.erode(solid, _disc(round(CERTAIN * patch)))
    labels = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    labels[grown > 0] = cv2.GC_PR_BGD
    labels[mask] = cv2.GC_PR_FGD
    labels[inner > 0] = cv2.GC_FGD
    x, y, width, height = cv2.boundingRect(grown)
    rim = round(SURROUNDINGS * patch)
    window = (slice(max(0, y - rim), y + height + rim), slice(max(0, x - rim), x + width + rim))
    cut = np.zeros(mask.shape, bool)
    cut[window] = grabcut(
        np.ascontiguousarray(photo[window]), np.ascontiguousarray(labels[window]), ITERATIONS
    )
    found = _part_of(cut, mask)
    union = np.count_nonzero(found | mask)
    return found if np.count_nonzero(found & mask) >= MIN_IOU * union else mask


def _disc(radius: int) -> npt.NDArray[np.uint8]:
    return np.asarray(
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8
    )


def _part_of(found: Mask, mask: Mask) -> Mask:
    """The 8-connected part of ``found`` that shares most pixels with ``mask``; empty where none does."""
    _, labels = cv2.connectedComponents(found.astype(np.uint8))
    shared = np.bincount(labels[mask & found], minlength=2)
    part: Mask = labels == max(1, int(shared.argmax()))
    return part
