"""Instance scores with COCO's own evaluator [P §A.4]: class-agnostic mask AP over all candidates ("multi")."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskdistill import rle

STATS = (
    "AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge", "AR1", "AR10", "AR100", "ARsmall", "ARmedium", "ARlarge"
)  # fmt: skip


def coco_stats(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    iou_type: Literal["segm", "bbox"] = "segm",
    class_agnostic: bool = False,
) -> npt.NDArray[np.float64]:
    """The twelve numbers of COCOeval's summary, silently and without changing the arguments.

    Equal scores keep the order of image ids and, within an image, the order of ``detections``.

    Args:
        images: ``{id, height, width}`` of the images that count.
        annotations: COCO ground truth ``{image_id, category_id, bbox, area, iscrowd, segmentation}``; those of other
            images are left out. ``segmentation`` (RLE or polygons) is needed for ``segm`` only.
        detections: COCO results ``{image_id, category_id, score}`` with ``segmentation`` (RLE) for ``segm`` or ``bbox``
            xywh in pixels for ``bbox``; those of other images are left out.
        iou_type: whether masks or boxes are compared.
        class_agnostic: put everything into one category first. (COCOeval's ``useCats = 0`` is not the same: it drops
            detections whose category the ground truth lacks, and orders ties by category.)

    Returns:
        float64 (12,), see ``STATS``, as fractions of 1; -1 where there is no ground truth to find.
    """
    kept = {image["id"] for image in images}
    truth = [
        {**annotation, "id": number, "category_id": 1 if class_agnostic else annotation["category_id"]}
        for number, annotation in enumerate((a for a in annotations if a["image_id"] in kept), start=1)
    ]
    found = []
    for number, detection in enumerate((d for d in detections if d["image_id"] in kept), start=1):
        entry = {key: detection[key] for key in ("image_id", "category_id", "score")}
        if class_agnostic:
            entry["category_id"] = 1
        if iou_type == "segm":
            entry["segmentation"] = detection["segmentation"]
            entry["area"] = rle.area(detection["segmentation"])
        else:
            entry["bbox"] = detection["bbox"]
            entry["area"] = detection["bbox"][2] * detection["bbox"][3]
        found.append({**entry, "id": number, "iscrowd": 0})
    categories = [{"id": category} for category in sorted({annotation["category_id"] for annotation in truth})]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(_index(images, truth, categories), _index(images, found, categories), iou_type)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return np.asarray(evaluator.stats, dtype=np.float64)


def class_agnostic_ap(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
) -> dict[str, float | None]:
    """Class-agnostic mask AP, AP50 and AP75 in percent; arguments as for :func:`coco_stats`.

    Returns:
        ``{"ap", "ap50", "ap75"}``; None where there is no object to find.
    """
    stats = coco_stats(images, annotations, detections, "segm", class_agnostic=True)
    return {
        name: None if value < 0 else 100 * float(value)
        for name, value in zip(("ap", "ap50", "ap75"), stats[:3], strict=True)
    }


def _index(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
) -> COCO:
    coco = COCO()
    coco.dataset = {"images": list(images), "annotations": list(annotations), "categories": list(categories)}
    coco.createIndex()
    return coco
