"""Confident candidates become one semantic map an image [P §3.3, §4.1].

Everything is done on runs of pixels, column by column as they are stored, so that the time goes by the
outlines of the candidates and not by their areas.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from maskdistill.config import MAX_CLUSTERS, Compare
from maskdistill.detector.types import Found
from maskdistill.formats import rle
from maskdistill.formats.rle import RLE
from maskdistill.pseudo_labels.confidence import passes
from maskdistill.runtime.errors import MaskDistillError

Overlap = Literal["drop", "pixel", "legacy"]
UNSURE = 255
"""Label of pixels from which a segmenter learns nothing."""


class PseudoLabel(NamedTuple):
    """Semantic map of one image.

    Attributes:
        labels: uint8 (H, W), 0 background, 255 unsure, otherwise the category id 1..K.
        kept: positions in the given candidates of those that were painted in their category, most confident
            first.
        fallback: no candidate passed the threshold and the best one was painted nevertheless.
    """

    labels: npt.NDArray[np.uint8]
    kept: list[int]
    fallback: bool


def paint(
    candidates: Sequence[Found],
    shape: tuple[int, int],
    tau: float,
    compare: Compare = "gt",
    overlap: Overlap = "drop",
    region: Callable[[Found], RLE] | None = None,
    unsure: float | None = None,
) -> PseudoLabel:
    """Paint the confident candidates of one image, most confident first; equal scores keep their order.

    Candidates whose mask has no pixel are disregarded. If none passes the threshold, the single best one is
    painted [P §4.1]; without any candidate the map is all background.

    Args:
        candidates: with masks at ``shape``, in any order.
        shape: height and width of the image.
        tau: threshold on the score, in [0, 1].
        compare: ``gt`` keeps score > tau, as the paper says; ``ge`` keeps score >= tau.
        overlap: ``drop`` skips a candidate that shares a pixel with a painted one [P §3.3]; ``pixel`` paints
            the pixels that are still free; ``legacy`` does as the released script [method §6.4]: every
            candidate is painted over the earlier ones, and none at all once the first two rows hold a label.
        region: what to paint of a candidate, RLE at ``shape``, possibly empty; by default its mask.
        unsure: where it is below ``tau``, candidates that only pass this are painted too, after the better
            ones and as :data:`UNSURE`; not with ``legacy``.

    Raises:
        MaskDistillError: if a mask has another size, or a category is outside 1..254.
    """
    for candidate in candidates:
        if list(candidate["segmentation"]["size"]) != list(shape):
            raise MaskDistillError(
                f"a candidate's mask has size {list(candidate['segmentation']['size'])}, its image "
                f"{list(shape)};"
                " run the candidates stage again with this manifest"
            )
        if not 1 <= candidate["category_id"] <= MAX_CLUSTERS:
            raise MaskDistillError(f"category {candidate['category_id']} is outside 1..{MAX_CLUSTERS}")
    chosen, sure, fallback = _choose(candidates, tau, compare, unsure)
    values = [candidates[i]["category_id"] if place < sure else UNSURE for place, i in enumerate(chosen)]
    regions = [candidates[i]["segmentation"] if region is None else region(candidates[i]) for i in chosen]
    runs = rle.runs(regions)
    places = [place for place, (starts, _) in enumerate(runs) if starts]
    height, width = shape
    pixels = np.zeros(width * height, dtype=np.uint8)
    if overlap == "pixel":
        ranks = np.zeros(width * height, dtype=np.uint16)
        for place in reversed(places):
            _fill(ranks, runs[place], place + 1)
        seen = set(np.unique(ranks).tolist())
        places = [place for place in places if place + 1 in seen]
        pixels = np.array([0, *values], dtype=np.uint8)[ranks]
    elif overlap == "legacy":
        rows = pixels.reshape(width, height)[:, :2]
        painted, places = places, []
        for place in painted:
            looked_at = (
                rows[:, 1:] if rle.area(candidates[chosen[place]]["segmentation"]) == pixels.size else rows
            )
            if not looked_at.any():
                _fill(pixels, runs[place], values[place])
                places.append(place)
    else:
        places = _disjoint(places, rle.overlaps(regions))
        for place in places:
            _fill(pixels, runs[place], values[place])
    labels = np.asarray(cv2.transpose(pixels.reshape(width, height)), dtype=np.uint8).reshape(shape)
    kept = [chosen[place] for place in places if place < sure]
    return PseudoLabel(labels, kept, fallback and bool(kept))


def _choose(
    candidates: Sequence[Found], tau: float, compare: Compare, unsure: float | None
) -> tuple[list[int], int, bool]:
    """What to paint: positions of candidates, best first; how many of these in their category; whether that
    is the best one alone, as none passes the threshold.
    """

    def solid(i: int) -> bool:
        return rle.area(candidates[i]["segmentation"]) > 0

    order = sorted(range(len(candidates)), key=lambda i: -candidates[i]["score"])
    whole = [i for i in order if solid(i)]
    passed = sum(passes(candidates[i]["score"], tau, compare) for i in whole)
    sure = passed or min(1, len(whole))
    lowest = tau if unsure is None else min(tau, unsure)
    painted = sum(passes(candidates[i]["score"], lowest, compare) for i in whole)
    return whole[: max(sure, painted)], sure, sure > passed


class Step(NamedTuple):
    """One painted candidate: its score, and the pixels that it covers beyond the better ones."""

    score: float
    pixels: int


def painting_steps(candidates: Sequence[Found], shape: tuple[int, int], overlap: Overlap) -> list[Step]:
    """What :func:`paint` paints when every candidate passes, best first.

    Whether a candidate is painted depends on better ones alone, so the steps with a score above any threshold
    are what is painted at that threshold: one pass tells of all thresholds.
    """
    kept, ranks = painting_ranks(candidates, shape, overlap)
    pixels = np.bincount(ranks.ravel(), minlength=len(kept) + 1)[1:].tolist()
    return [Step(candidates[i]["score"], count) for i, count in zip(kept, pixels, strict=True)]


def painting_ranks(
    candidates: Sequence[Found], shape: tuple[int, int], overlap: Overlap
) -> tuple[list[int], npt.NDArray[np.uint16]]:
    """Positions of the candidates painted when all pass, best first, and each pixel's owner.

    Returns:
        The positions, and uint16 (H, W): 0 background, r where the r-th painted candidate is the best one.
        What is painted at a threshold are the ranks up to the number of painted candidates that pass it.
    """
    kept = paint(candidates, shape, 0.0, "ge", overlap).kept
    ranks = np.zeros(shape[0] * shape[1], dtype=np.uint16)
    runs = rle.runs([candidates[i]["segmentation"] for i in kept])
    for rank in range(len(kept), 0, -1):
        _fill(ranks, runs[rank - 1], rank)
    return kept, ranks.reshape(shape[1], shape[0]).T


def _disjoint(places: list[int], overlaps: npt.NDArray[np.bool_]) -> list[int]:
    """Those of ``places`` that overlap none of the earlier ones taken."""
    taken: list[int] = []
    for place in places:
        if not overlaps[place, taken].any():
            taken.append(place)
    return taken


def _fill(pixels: npt.NDArray[np.unsignedinteger], runs: tuple[list[int], list[int]], value: int) -> None:
    """Write ``value`` into the runs of a mask; ``pixels`` are column-major."""
    for start, stop in zip(*runs, strict=True):
        pixels[start:stop] = value
