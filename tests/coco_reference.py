"""pycocotools' own evaluator, straight from annotations and results: what our scores are compared with."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskdistill.formats import rle

Entries = Sequence[Mapping[str, Any]]


def coco_eval(images: Entries, annotations: Entries, detections: Entries, iou_type: str = "segm") -> COCOeval:
    """A summarised COCOeval.

    Args:
        images: ``{id, height, width}`` of those that count; entries of others are left out.
        annotations: COCO ground truth.
        detections: COCO results; their areas are those of the masks or boxes.
        iou_type: ``segm`` or ``bbox``.
    """
    return run_coco_eval(*coco_indexes(images, annotations, detections, iou_type), iou_type)


def coco_indexes(
    images: Entries, annotations: Entries, detections: Entries, iou_type: str
) -> tuple[COCO, COCO]:
    """Ground truth and results as COCOeval takes them; arguments as for :func:`coco_eval`."""
    kept = {image["id"] for image in images}
    truth = [dict(entry) for entry in annotations if entry["image_id"] in kept]
    found = [{**entry, "iscrowd": 0, "area": _area(entry, iou_type)} for entry in detections]
    found = [entry for entry in found if entry["image_id"] in kept]
    categories = [{"id": category} for category in sorted({entry["category_id"] for entry in truth})]
    with contextlib.redirect_stdout(io.StringIO()):
        return _index(images, truth, categories), _index(images, found, categories)


def run_coco_eval(truth: COCO, found: COCO, iou_type: str) -> COCOeval:
    """Evaluate, accumulate and summarise, silently."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(truth, found, iou_type)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def merged(entries: Entries) -> list[dict[str, Any]]:
    """The same in one category. (``useCats = 0`` orders ties by category, and drops those without ground
    truth.)
    """
    return [{**entry, "category_id": 1} for entry in entries]


def class_scores(evaluator: COCOeval) -> dict[int, list[float]]:
    """AP, AP50 and AP75 of each class that has an object."""
    scores = {}
    for place, category in enumerate(evaluator.params.catIds):
        precision = evaluator.eval["precision"][:, :, place, 0, 2]
        if precision.max() > -1:
            scores[category] = [float(part.mean()) for part in (precision, precision[0], precision[5])]
    return scores


def _area(entry: Mapping[str, Any], iou_type: str) -> float:
    if iou_type == "segm":
        return float(rle.area(entry["segmentation"]))
    return float(np.prod(entry["bbox"][2:]))


def _index(images: Entries, entries: Entries, categories: Entries) -> COCO:
    numbered = [{**entry, "id": number} for number, entry in enumerate(entries, start=1)]
    coco = COCO()
    coco.dataset = {"images": list(images), "annotations": numbered, "categories": list(categories)}
    coco.createIndex()
    return coco
