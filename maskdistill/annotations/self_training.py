"""What the detector learns in a round of self-training: what the one before it found, and the masks that this
leaves over.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from maskdistill.annotations.types import Annotation, ScoredObject
from maskdistill.formats import rle
from maskdistill.runtime.errors import MaskDistillError


def next_annotations(
    found: Sequence[ScoredObject],
    before: Sequence[Annotation],
    shape: tuple[int, int],
    least: float,
    most: float,
    first_id: int = 1,
) -> Iterator[Annotation]:
    """Annotations of one image for the next round (CutLER, Wang et al. 2023, §3.3).

    First the candidates that the last detector is sure of, best first, equal scores in the order given; then
    those annotations that none of them overlaps much. Of sure candidates of several categories that overlap
    each other as much, the best alone stays: an object has one category.

    Args:
        found: the last detector's candidates in the image.
        before: the annotations that it learnt there.
        shape: height and width of the image.
        least: score from which on a candidate counts.
        most: IoU above which a mask shows what a better one shows already.
        first_id: id of the first annotation.

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
    kept = _distinct([*sure, *before], len(sure), most)
    for number, one in enumerate(kept, first_id):
        yield {
            "id": number,
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "bbox": rle.bbox(one["segmentation"]),
            "area": rle.area(one["segmentation"]),
            "segmentation": {"size": list(shape), "counts": one["segmentation"]["counts"]},
            "iscrowd": 0,
            "score": one["score"],
        }


def _distinct(objects: Sequence[ScoredObject], sure: int, most: float) -> list[ScoredObject]:
    """Those that overlap none of the earlier ones kept by more than ``most``; the first ``sure`` alone push
    others out.
    """
    if not sure:
        return list(objects)
    masks = [one["segmentation"] for one in objects]
    overlap = rle.iou(masks, masks[:sure], np.zeros(sure, bool))
    pushing: list[int] = []
    kept: list[ScoredObject] = []
    for place, one in enumerate(objects):
        if (overlap[place, pushing] <= most).all():
            kept.append(one)
            if place < sure:
                pushing.append(place)
    return kept
