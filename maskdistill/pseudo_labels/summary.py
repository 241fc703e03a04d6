"""Pseudo-labels at other thresholds, counted on the same candidates without painting."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from maskdistill.config import Compare
from maskdistill.pseudo_labels.confidence import levels_passed
from maskdistill.pseudo_labels.painting import Step

TAUS = tuple(step / 100 for step in range(101))
"""Thresholds that are counted, ascending: 0, 0.01, ... 1."""


class LabelSummary(TypedDict):
    """Counts of painted images, as they stand in ``pseudo_labels/shard-NNNN/summary.json``.

    Attributes:
        images: how many were painted.
        kept: candidates painted.
        fallback: images that got their best candidate though none passes.
        empty: images without anything to paint.
        mean_coverage: mean share of their pixels that is painted in a category.
        mean_unsure: mean share of their pixels that is left out as unsure.
    """

    images: int
    kept: int
    fallback: int
    empty: int
    mean_coverage: float
    mean_unsure: float


class CountRow(TypedDict):
    """Counts at a threshold, as they stand in ``label_summary.json``.

    Attributes:
        tau: the threshold.
        images_kept: images with a candidate above it.
        objects_kept: candidates painted, those by fallback included.
        fallback, empty, mean_coverage: as of :class:`LabelSummary`.
    """

    tau: float
    images_kept: int
    objects_kept: int
    fallback: int
    empty: int
    mean_coverage: float


@dataclass(frozen=True)
class Counts:
    """Counts of images at every threshold, int64 (T,) each but the last; adding them joins sets of images.

    Attributes:
        images: number of images, the same at every threshold.
        kept: images with a candidate above the threshold.
        objects: candidates painted, those by fallback included.
        fallback: images whose best candidate is painted though none passes.
        empty: images without anything to paint.
        coverage: float64 (T,) sum over the images of the share of pixels that is painted.
    """

    images: int
    kept: np.ndarray
    objects: np.ndarray
    fallback: np.ndarray
    empty: np.ndarray
    coverage: np.ndarray


def count_image(steps: Sequence[Step], pixels: int, compare: Compare, taus: Sequence[float] = TAUS) -> Counts:
    """Counts of one image.

    Args:
        steps: of :func:`maskdistill.pseudo_labels.painting.painting_steps`.
        pixels: of the image.
        compare: see :func:`maskdistill.pseudo_labels.painting.paint`.
    """
    levels = levels_passed([step.score for step in steps], compare, taus)
    passed = (levels[:, None] > np.arange(len(taus))).sum(axis=0)
    painted = np.maximum(passed, 1 if steps else 0)
    covered = np.cumsum([0, *(step.pixels for step in steps)])[painted]
    none = np.full(len(taus), not steps).astype(np.int64)
    kept = (passed > 0).astype(np.int64)
    return Counts(1, kept, painted, 1 - kept - none, none, covered / pixels)


def join(counts: Iterable[Counts], taus: Sequence[float] = TAUS) -> Counts:
    """Counts of all images together."""
    images, sums = 0, [np.zeros(len(taus), dtype=np.int64) for _ in range(4)] + [np.zeros(len(taus))]
    for one in counts:
        images += one.images
        for total, part in zip(
            sums, (one.kept, one.objects, one.fallback, one.empty, one.coverage), strict=True
        ):
            total += part
    return Counts(images, *sums)


def rows(counts: Counts, taus: Sequence[float] = TAUS) -> list[CountRow]:
    """One row a threshold."""
    return [
        {
            "tau": tau,
            "images_kept": int(counts.kept[place]),
            "objects_kept": int(counts.objects[place]),
            "fallback": int(counts.fallback[place]),
            "empty": int(counts.empty[place]),
            "mean_coverage": float(counts.coverage[place]) / max(1, counts.images),
        }
        for place, tau in enumerate(taus)
    ]
