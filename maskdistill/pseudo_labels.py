"""Confident candidates become one semantic map an image [P §3.3, §4.1]."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from maskdistill import rle
from maskdistill.runtime.errors import MaskDistillError

MAX_CLUSTERS = 254
"""Labels are 1..K in uint8, and 255 means ignore wherever labels are read."""


class PseudoLabel(NamedTuple):
    """Semantic map of one image.

    Attributes:
        labels: uint8 (H, W), 0 background, otherwise the category id 1..K; never 255.
        kept: positions in the given candidates of those that were painted, most confident first.
        fallback: no candidate passed the threshold and the best one was painted nevertheless.
    """

    labels: npt.NDArray[np.uint8]
    kept: list[int]
    fallback: bool


def paint(
    candidates: Sequence[Mapping[str, Any]],
    shape: tuple[int, int],
    tau: float,
    compare: Literal["gt", "ge"] = "gt",
    overlap: Literal["drop", "pixel"] = "drop",
) -> PseudoLabel:
    """Paint the confident candidates of one image, most confident first; equal scores keep their order.

    Candidates without a pixel are disregarded. If none passes the threshold, the single best one is painted
    [P §4.1]; without any candidate the map is all background.

    Args:
        candidates: ``category_id`` (1..K), ``score`` and ``segmentation`` (RLE at ``shape``), in any order.
        shape: height and width of the image.
        tau: threshold on the score, in [0, 1].
        compare: ``gt`` keeps score > tau, as the paper says; ``ge`` keeps score >= tau.
        overlap: ``drop`` skips a candidate that shares a pixel with a painted one [P §3.3]; ``pixel`` paints the
            pixels that are still free.

    Raises:
        MaskDistillError: if a mask has another size, or a category is outside 1..254.
    """
    for candidate in candidates:
        if list(candidate["segmentation"]["size"]) != list(shape):
            raise MaskDistillError(
                f"a candidate's mask has size {list(candidate['segmentation']['size'])}, its image {list(shape)};"
                " run the candidates stage again with this manifest"
            )
        if not 1 <= candidate["category_id"] <= MAX_CLUSTERS:
            raise MaskDistillError(f"category {candidate['category_id']} is outside 1..{MAX_CLUSTERS}")
    solid = [i for i, candidate in enumerate(candidates) if rle.area(candidate["segmentation"]) > 0]
    order = sorted(solid, key=lambda i: -candidates[i]["score"])
    chosen = [i for i in order if _passes(candidates[i]["score"], tau, compare)]
    fallback = bool(order) and not chosen
    if fallback:
        chosen = order[:1]
    labels = np.zeros(shape, dtype=np.uint8)
    kept = []
    for i in chosen:
        mask = rle.decode(candidates[i]["segmentation"])
        free = mask & (labels == 0)
        if not free.any() or (overlap == "drop" and (free != mask).any()):
            continue
        labels[free] = candidates[i]["category_id"]
        kept.append(i)
    return PseudoLabel(labels, kept, fallback)


def _passes(score: float, tau: float, compare: Literal["gt", "ge"]) -> bool:
    return score > tau if compare == "gt" else score >= tau
