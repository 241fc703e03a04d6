"""What pseudo-labels would be at other thresholds, counted on the same candidates without painting them again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from maskdistill.pseudo_labels import Step, passes

TAUS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)


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


def count_image(
    steps: Sequence[Step], pixels: int, compare: Literal["gt", "ge"], taus: Sequence[float] = TAUS
) -> Counts:
    """Counts of one image.

    Args:
        steps: of :func:`maskdistill.pseudo_labels.painting_steps`.
        pixels: of the image.
        compare: see :func:`maskdistill.pseudo_labels.paint`.
    """
    passed = np.array([sum(passes(step.score, tau, compare) for step in steps) for tau in taus], dtype=np.int64)
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
        for total, part in zip(sums, (one.kept, one.objects, one.fallback, one.empty, one.coverage), strict=True):
            total += part
    return Counts(images, *sums)


def rows(counts: Counts, taus: Sequence[float] = TAUS) -> list[dict[str, Any]]:
    """One row a threshold: ``tau, images_kept, objects_kept, fallback, empty, mean_coverage`` (a share)."""
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
