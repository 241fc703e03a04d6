"""Perfect masks from the ground truth, to show what each later stage loses.

Only for the target ``snakemake oracle``; nothing that a run keeps, applies or exports is made from them.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from maskdistill.evaluation.ground_truth import TruthImage
from maskdistill.evaluation.types import PerfectMask
from maskdistill.formats import rle
from maskdistill.formats.rle import RLE
from maskdistill.masks.types import MaskRecord


class Case(NamedTuple):
    """What is replaced by the ground truth.

    Attributes:
        masks: which masks: the found ones, the exact mask of the best object of each, or the exact masks of
            all objects.
        categories: whether they have true categories instead of clusters.
    """

    masks: Literal["found", "best", "all"]
    categories: bool


CASES = {
    "masks": Case("best", False),
    "objects": Case("all", False),
    "categories": Case("found", True),
    "annotations": Case("all", True),
}
"""Cases by their names in ``OracleConfig.cases``; ``labels`` needs no mask."""


def best_objects(masks: Sequence[RLE], objects: Sequence[RLE]) -> npt.NDArray[np.int64]:
    """For each mask, the object that it overlaps best, by IoU; the first on ties.

    Args:
        masks: N RLEs.
        objects: M RLEs of the same size.

    Returns:
        int64 (N,), indices into ``objects``; -1 if a mask shares no pixel with any.
    """
    if not masks or not objects:
        return np.full(len(masks), -1, dtype=np.int64)
    overlap = rle.iou(masks, objects, np.zeros(len(objects), dtype=bool))
    return np.where(overlap.max(axis=1) > 0, overlap.argmax(axis=1), -1)


def perfect_masks(found: Sequence[MaskRecord], image: TruthImage, case: Case) -> list[PerfectMask]:
    """Records of an image's perfect masks, in the form of the stage ``masks``.

    Regions of many objects (crowds) do not count as objects. A found mask that overlaps no object is left
    out. If masks are replaced by their objects', an object that several found masks overlap best appears
    once, at the first of them.

    Args:
        found: records of the stage ``masks`` of this image.
        image: its ground truth; without masks there are no records.
        case: what is made perfect.

    Returns:
        Records with ``image_id, key, segmentation, bbox, area, score`` and, with true categories,
        ``category_id`` (1..C).
    """
    if not image.has_masks:
        return []
    objects = [item for item in image.annotations if not item["iscrowd"] and rle.area(item["segmentation"])]
    shapes = [item["segmentation"] for item in objects]
    best = best_objects([mask["segmentation"] for mask in found], shapes)
    chosen = [place for place in best.tolist() if place >= 0]
    if case.masks == "found":
        kept = [mask for mask, place in zip(found, best.tolist(), strict=True) if place >= 0]
        records = [cast(PerfectMask, dict(mask)) for mask in kept]  # with all fields of a found mask
    else:
        chosen = list(range(len(objects))) if case.masks == "all" else list(dict.fromkeys(chosen))
        records = [_record(image, shapes[place]) for place in chosen]
    if case.categories:
        for record, place in zip(records, chosen, strict=True):
            record["category_id"] = int(objects[place]["category_id"])
    return records


def _record(image: TruthImage, shape: RLE) -> PerfectMask:
    return {
        "image_id": image.id,
        "key": image.key,
        "segmentation": {"size": list(shape["size"]), "counts": shape["counts"]},
        "bbox": rle.bbox(shape),
        "area": rle.area(shape),
        "score": 1.0,
    }
