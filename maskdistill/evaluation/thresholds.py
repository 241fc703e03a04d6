"""How good the pseudo-labels would be at each threshold, from a single pass over the candidates.

Whether a candidate is painted depends only on better ones (see
:func:`maskdistill.pseudo_labels.painting.painting_ranks`), so what is painted at a threshold is a prefix of
the unthresholded order. Each painted candidate and its pixels are counted once, by the number of thresholds
that it passes; cumulative sums then give every threshold.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from maskdistill.evaluation.instances import ImageInstances, Integers
from maskdistill.evaluation.matching import Matching
from maskdistill.evaluation.semantic import COLUMNS, IGNORE, semantic_scores
from maskdistill.evaluation.types import ScoreQuality, ThresholdRow

HALF = 0.5
"""Lowest IoU at which a candidate finds an object, and lowest share of an object at which a candidate holds
it.
"""


class ImageThresholds(NamedTuple):
    """What one image contributes.

    Attributes:
        levels: for each painted candidate, best first, how many of the ascending thresholds it passes; the
            best one is painted at all of them, if necessary as a fallback.
        found: whether each finds an object that no better one finds; None if the objects have no masks.
        merged: whether each holds at least half of two or more objects.
        objects: number of objects to find, without crowd regions.
        cells: level, flat index in the (P, G) confusion matrix and count, for painted pixels, then for all
            others (level 0, label 0); None without a semantic map. Pixels whose target is 255 are left out.
    """

    levels: list[int]
    found: list[bool] | None
    merged: list[bool]
    objects: int
    cells: list[tuple[int, int, int]] | None


def image_thresholds(
    levels: Sequence[int],
    kept: Sequence[int],
    ranks: npt.NDArray[np.uint16],
    categories: Sequence[int],
    instances: ImageInstances | None,
    target: npt.NDArray[np.uint8] | None,
    num_classes: int,
    num_taus: int,
) -> ImageThresholds:
    """Count one image.

    Args:
        levels: number of thresholds that each candidate passes.
        kept, ranks: see :func:`maskdistill.pseudo_labels.painting.painting_ranks`.
        categories: cluster 1..K of each candidate.
        instances: all candidates, in order, compared with the objects; None if these have no masks.
        target: uint8 (H, W) class of each pixel or 255; None without a semantic map.
        num_classes: G, background included.
        num_taus: number of thresholds.
    """
    painted = [num_taus if rank == 0 else int(levels[i]) for rank, i in enumerate(kept)]
    found, merged, objects = None, [False] * len(kept), 0
    if instances is not None:
        objects = int((~instances.crowd).sum())
        found = greedy_matches(instances, kept)
        held = held_objects(instances)
        merged = [int(held[i].sum()) > 1 for i in kept]
    cells = None
    if target is not None:
        of_rank = np.zeros(1 + len(kept), np.intp)
        of_rank[1:] = [categories[i] for i in kept]
        flat = np.bincount(
            (ranks.astype(np.intp) * COLUMNS + target).ravel(), minlength=(1 + len(kept)) * COLUMNS
        )
        counts = flat.reshape(-1, COLUMNS)
        counts[:, IGNORE] = 0
        steps = [0, *painted]
        cells = [
            (steps[rank], int(of_rank[rank]) * num_classes + int(column), int(counts[rank, column]))
            for rank, column in zip(*np.nonzero(counts), strict=True)
        ]
    return ImageThresholds(painted, found, merged, objects, cells)


def greedy_matches(instances: ImageInstances, order: Sequence[int]) -> list[bool]:
    """Whether each detection, best first, overlaps a new object with an IoU of at least 0.5.

    Crowd regions do not count as objects here.
    """
    overlaps = instances.overlaps[:, ~instances.crowd]
    free = np.ones(overlaps.shape[1], dtype=np.bool_)
    found = []
    for i in order:
        row = np.where(free, overlaps[i], 0.0)
        best = int(row.argmax()) if row.size else -1
        found.append(best >= 0 and bool(row[best] >= HALF))
        if found[-1]:
            free[best] = False
    return found


def held_objects(instances: ImageInstances) -> npt.NDArray[np.bool_]:
    """Which objects, crowd regions aside, each detection holds at least half of: bool (D, M)."""
    overlaps, areas = instances.overlaps, instances.areas[:, None] + instances.true_areas[None]
    shared = overlaps * areas / (1 + overlaps)
    held: npt.NDArray[np.bool_] = (shared >= HALF * instances.true_areas[None]) & ~instances.crowd[None]
    return held & (overlaps > 0)


class Thresholds:
    """Sums over images.

    Args:
        num_labels: P, clusters and background.
        num_classes: G, classes and background.
        taus: ascending thresholds.
    """

    def __init__(self, num_labels: int, num_classes: int, taus: Sequence[float]) -> None:
        self.taus = taus
        self.shape = (num_labels, num_classes)
        levels = len(taus) + 1
        self._painted, self._found, self._merged = (np.zeros(levels, np.int64) for _ in range(3))
        self._cells = np.zeros((levels, num_labels * num_classes), np.int64)
        self._objects = self._with_masks = self._with_maps = 0

    def add(self, image: ImageThresholds) -> None:
        """Count one image."""
        if image.found is not None:
            levels = np.array(image.levels, np.int64)
            self._with_masks += 1
            self._objects += image.objects
            np.add.at(self._painted, levels, 1)
            np.add.at(self._found, levels[np.array(image.found, np.bool_)], 1)
            np.add.at(self._merged, levels[np.array(image.merged, np.bool_)], 1)
        if image.cells is not None:
            self._with_maps += 1
            for level, cell, count in image.cells:
                self._cells[level, cell] += count

    def rows(self, mode: Matching) -> list[ThresholdRow]:
        """One row per threshold; shares in percent, None if there is nothing to divide by.

        Returns:
            ``tau, painted, found, merged, objects, precision`` (of painted candidates, how many find an
            object), ``coverage`` (of objects, how many are found), ``pixel_precision`` (of painted pixels,
            how many lie on objects), ``pixel_coverage`` (of the objects' pixels, how many are painted) and
            ``miou`` (clusters matched with classes at this threshold).
        """
        painted, found, merged = (_passing(counts) for counts in (self._painted, self._found, self._merged))
        return [
            self._row(place, tau, int(painted[place]), int(found[place]), int(merged[place]), mode)
            for place, tau in enumerate(self.taus)
        ]

    def _row(
        self, place: int, tau: float, painted: int, found: int, merged: int, mode: Matching
    ) -> ThresholdRow:
        masks = bool(self._with_masks)
        pixel_precision, pixel_coverage, miou = (
            self._pixels(place, mode) if self._with_maps else (None, None, None)
        )
        return {
            "tau": tau,
            "painted": painted if masks else None,
            "found": found if masks else None,
            "merged": merged if masks else None,
            "objects": self._objects if masks else None,
            "precision": _percent(found, painted) if masks else None,
            "coverage": _percent(found, self._objects) if masks else None,
            "pixel_precision": pixel_precision,
            "pixel_coverage": pixel_coverage,
            "miou": miou,
        }

    def _pixels(self, place: int, mode: Matching) -> tuple[float | None, float | None, float]:
        """Precision and coverage of pixels, and mean IoU."""
        confusion = self._cells[place + 1 :].sum(axis=0).reshape(self.shape)
        confusion[0] += self._cells[: place + 1].sum(axis=0).reshape(self.shape).sum(axis=0)
        hit = int(confusion[1:, 1:].sum())
        shares = _percent(hit, int(confusion[1:].sum())), _percent(hit, int(confusion[:, 1:].sum()))
        return *shares, 100 * semantic_scores(confusion, mode).miou


def score_quality(images: Iterable[ImageInstances], bins: int = 20) -> ScoreQuality:
    """Score of each candidate against its IoU with the object that it overlaps best, 0 without one.

    Returns:
        ``bins [{low, high, count, mean_iou, good}]`` over scores 0..1, where ``good`` is the share in percent
        with an IoU of 0.5 or more; ``points`` [score, iou] of at most 600 candidates, evenly spaced in the
        order of scores; ``rank_correlation`` (Spearman's) of all, None for fewer than three candidates or
        without variation.
    """
    scores, qualities = [np.zeros(0)], [np.zeros(0)]
    for image in images:
        overlaps = image.overlaps[:, ~image.crowd]
        scores.append(image.scores)
        qualities.append(overlaps.max(axis=1) if overlaps.shape[1] else np.zeros(len(image.scores)))
    score, quality = np.concatenate(scores), np.concatenate(qualities)
    place = np.minimum((score * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums, good = (np.bincount(place, values, minlength=bins) for values in (quality, quality >= HALF))
    order = np.lexsort((quality, score))
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(600, len(order))).round().astype(np.int64))]
    return {
        "bins": [
            {"low": b / bins, "high": (b + 1) / bins, "count": int(counts[b]),
             "mean_iou": float(sums[b] / counts[b]), "good": 100 * float(good[b] / counts[b])}
            for b in np.flatnonzero(counts).tolist()
        ],
        "points": [[round(float(score[i]), 4), round(float(quality[i]), 4)] for i in chosen],
        "rank_correlation": rank_correlation(score, quality),
    }  # fmt: skip


def rank_correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float | None:
    """Spearman's correlation of two (n,), with mean ranks; None for n < 3 or a constant."""
    one, other = _ranks(first), _ranks(second)
    if len(first) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: npt.NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return means[inverse]


def _passing(counts: Integers) -> Integers:
    """The number at each threshold, from counts by level (T + 1,): the sum over higher levels."""
    passing: Integers = counts[::-1].cumsum()[::-1][1:]
    return passing


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
