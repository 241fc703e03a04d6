"""Which ground-truth class a cluster stands for. It is determined once, after all training, and only for
scoring [P §4.1, §A.3]. The rule is MaskContrast's (arXiv 2102.06191): Hungarian matching that maximises the
summed IoU, or a majority-style assignment if there are more clusters than classes.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

UNMATCHED = -1


Matching = Literal["iou", "bg_fixed", "none"]


def match_clusters(iou: npt.NDArray[np.float64], mode: Matching = "iou") -> npt.NDArray[np.int64]:
    """Match predicted labels with ground-truth classes.

    With at most as many clusters as classes the matching is one-to-one and maximises the summed IoU; classes
    left over score 0. With more clusters than classes each cluster takes the class it overlaps best, so
    several clusters can share a class and are merged before scoring. A pair that does not overlap at all (IoU
    0) is no match: that changes no score.

    Args:
        iou: float (P, G) intersection over union of label p with class g, in [0, 1]; row 0 and column 0 are
            background.
        mode: ``iou`` matches background like any class; ``bg_fixed`` ties label 0 to class 0 and matches the
            rest; ``none`` takes labels as classes, for a model that was trained on classes.

    Returns:
        int64 (P,): class of each label, -1 where it has none.

    Raises:
        ValueError: ``iou`` is not two-dimensional, is empty or not finite, the mode is unknown, or it is
            ``none`` and ``iou`` is not square.
    """
    if iou.ndim != 2 or iou.size == 0 or not np.isfinite(iou).all():
        raise ValueError(f"iou must be a finite, non-empty (P, G) array, got shape {iou.shape}")
    if mode == "iou":
        return _overlapping(iou)
    if mode == "bg_fixed":
        rest = _overlapping(iou[1:, 1:])
        background = np.zeros(1, dtype=np.int64)
        return np.concatenate([background, np.where(rest == UNMATCHED, UNMATCHED, rest + 1)])
    if mode == "none" and iou.shape[0] == iou.shape[1]:
        return np.arange(len(iou))
    raise ValueError(
        f"unknown matching {mode!r} for {iou.shape}; use 'iou', 'bg_fixed' or, for classes, 'none'"
    )


def _overlapping(iou: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    matched = match_scores(iou)
    pairs = np.flatnonzero(matched != UNMATCHED)
    matched[pairs[iou[pairs, matched[pairs]] == 0]] = UNMATCHED
    return matched


def match_scores(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Match rows to columns one-to-one for the largest sum; surplus rows take their best column.

    With at most as many rows as columns every row gets a column, even if its score is 0. With more rows than
    columns, a row whose scores are all 0 is left unmatched.

    Args:
        scores: float64 (P, G), at least 0.

    Returns:
        int64 (P,): column of each row, -1 where it has none.
    """
    rows, columns = scores.shape
    matched = np.full(rows, UNMATCHED, dtype=np.int64)
    if scores.size == 0:
        return matched
    if rows > columns:
        return np.where(scores.max(axis=1) > 0, scores.argmax(axis=1), UNMATCHED)
    chosen, partners = linear_sum_assignment(scores, maximize=True)
    matched[chosen] = partners
    return matched
