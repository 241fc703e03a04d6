"""Masks on the grid of patches: what a mask rule returns, and what several rules need to find it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Place = tuple[int, int]


@dataclass(frozen=True)
class PatchMask:
    """One mask of an image.

    Attributes:
        mask: bool (R, C), the object's patches.
        source: (row, column) of the patch that the mask grew from.
        tied: stands in the mask's record, see :class:`maskdistill.masks.rules.maskdistill.DistilledMask`;
            None: it does not.
        warning: what is odd about the image; images are counted by it in the log. Empty: nothing is.
    """

    mask: Mask
    source: Place
    tied: float | None = None
    warning: str = ""


def components(mask: Mask) -> npt.NDArray[np.int32]:
    """Labels of the 4-connected parts of ``mask`` (R, C), 1, 2, ... in reading order; else 0."""
    from scipy import ndimage  # takes half a second to load, and the configuration imports rules

    return np.asarray(ndimage.label(mask)[0], np.int32)


def component(mask: Mask, patch: Place) -> Mask:
    """The 4-connected part of ``mask`` (R, C) that holds ``patch``, which is true in it."""
    labels = components(mask)
    part: Mask = labels == labels[patch]
    return part


def largest_component(mask: Mask) -> Mask:
    """The largest 4-connected part of ``mask`` (R, C), which has one; the first of equals."""
    labels = components(mask)
    part: Mask = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    return part


def largest_share(values: npt.NDArray[np.floating[Any]], mass: float) -> Mask:
    """The largest entries that hold the share ``mass`` of the sum (DINO's rule [method §2b]), bool (N,).

    Entries are sorted ascending (ties: the lower index counts as larger), divided by the sum, and taken
    where the cumulative sum exceeds ``1 - mass``. With a negative sum the rule is as odd as in the
    released code.
    """
    order = np.lexsort((-np.arange(len(values)), values))
    share = np.cumsum(values[order] / values.sum())
    kept = np.zeros(len(values), bool)
    kept[order] = share > 1 - mass
    return kept
