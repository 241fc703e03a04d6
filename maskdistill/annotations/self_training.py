"""What the detector learns in a round of self-training: what the one before it found, and the masks that this
leaves over.
"""

from collections.abc import Sequence

import numpy as np

from maskdistill.annotations.types import Annotation, ScoredObject
from maskdistill.formats import rle
from maskdistill.formats.rle import RLE
from maskdistill.runtime.errors import MaskDistillError


def next_annotations(
    found: Sequence[ScoredObject],
    before: Sequence[Annotation],
    shape: tuple[int, int],
    least: float,
    most: float,
    first_id: int = 1,
) -> tuple[list[Annotation], int]:
    """Annotations of one image for the next round (CutLER, Wang et al. 2023, §3.3).

    First the candidates that the last detector is sure of, best first, equal scores in the order given; then
    those annotations that none of them overlaps much. Of sure candidates of several categories that overlap
    each other as much, the best alone stays: an object has one category. Candidates without a pixel are
    disregarded.

    Args:
        found: the last detector's candidates in the image.
        before: the annotations that it learnt there.
        shape: height and width of the image.
        least: score from which on a candidate counts.
        most: IoU above which a mask shows what a better one shows already.
        first_id: id of the first annotation.

    Returns:
        The annotations, and how many of them, from the first on, are candidates.

    Raises:
        MaskDistillError: a candidate's mask has another size.
    """
    sure = sorted((one for one in found if one["score"] >= least), key=lambda one: -one["score"])
    for one in sure:
        if tuple(one["segmentation"]["size"]) != shape:
            raise MaskDistillError(
                f"a candidate's mask has size {list(one['segmentation']['size'])}, its image {list(shape)}; "
                "run the candidates stage again with this manifest"
            )
    sure = [one for one in sure if rle.area(one["segmentation"])]
    objects: list[ScoredObject] = [*sure, *before]
    kept = _distinct([one["segmentation"] for one in objects], len(sure), most)
    annotations = [_annotation(number, objects[place]) for number, place in enumerate(kept, first_id)]
    return annotations, sum(place < len(sure) for place in kept)


def _annotation(number: int, one: ScoredObject) -> Annotation:
    code = one["segmentation"]
    return {
        "id": number,
        "image_id": one["image_id"],
        "category_id": one["category_id"],
        "bbox": rle.bbox(code),
        "area": rle.area(code),
        "segmentation": {"size": list(code["size"]), "counts": code["counts"]},
        "iscrowd": 0,
        "score": one["score"],
    }


def _distinct(masks: Sequence[RLE], sure: int, most: float) -> list[int]:
    """Places of those that overlap none of the earlier ones kept by more than ``most``; the first ``sure``
    alone push others out.
    """
    if not sure:
        return list(range(len(masks)))
    overlap = rle.iou(masks, masks[:sure], np.zeros(sure, np.bool_))
    kept: list[int] = []
    for place in range(len(masks)):
        pushing = [other for other in kept if other < sure]
        if (overlap[place, pushing] <= most).all():
            kept.append(place)
    return kept
