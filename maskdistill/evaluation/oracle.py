"""Perfect masks from the ground truth, which show what each later stage loses.

For the target ``snakemake oracle`` alone; nothing that a run keeps, applies or hands out is made from them.
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
    """What is made perfect.

    Attributes:
        masks: whose masks: as they were found, the exact mask of the best object of each, or those of all
            objects.
        categories: whether they have their true categories in the place of clusters.
    """

    masks: Literal["found", "best", "all"]
    categories: bool


CASES = {
    "masks": Case("best", False),
    "objects": Case("all", False),
    "categories": Case("found", True),
    "annotations": Case("all", True),
}
"""By the names that ``OracleConfig.cases`` gives them; ``labels`` needs no mask."""


def best_objects(masks: Sequence[RLE], objects: Sequence[RLE]) -> npt.NDArray[np.int64]:
    """Of each mask the object that it overlaps best, by IoU; the first on ties.

    Args:
        masks: N RLEs.
        objects: M RLEs of the same size.

    Returns:
        int64 (N,), places in ``objects``; -1 where a mask shares no pixel with any.
    """
    if not masks or not objects:
        return np.full(len(masks), -1, dtype=np.int64)
    overlap = rle.iou(masks, objects, np.zeros(len(objects), dtype=bool))
    return np.where(overlap.max(axis=1) > 0, overlap.argmax(axis=1), -1)


def perfect_masks(found: Sequence[MaskRecord], image: TruthImage, case: Case) -> list[PerfectMask]:
    """Records of an image's masks as the stage ``masks`` would write them, made perfect.

    Regions of many objects (crowds) are none. A found mask that overlaps no object is left out, and an object
    that several found masks overlap best stands once, at the first of them, where its own mask takes their
    place.

    Args:
        found: records of the stage ``masks`` of this image.
        image: its ground truth; without masks there is none to be had.
        case: what is made perfect.

    Returns:
        Records with ``image_id, key, segmentation, bbox, area, score`` and, of true categories,
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
        records = [cast(PerfectMask, dict(mask)) for mask in kept]  # with all that a found mask has
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
