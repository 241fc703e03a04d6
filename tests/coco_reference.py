"""pycocotools' own evaluator, straight from annotations and results: what our scores are compared with."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def coco_eval(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    iou_type: str = "segm",
) -> COCOeval:
    """A summarised COCOeval; ``area`` of the detections is that of their masks or boxes."""
    truth, found = COCO(), COCO()
    categories = [{"id": category} for category in sorted({entry["category_id"] for entry in annotations})]
    with contextlib.redirect_stdout(io.StringIO()):
        for index, entries in ((truth, annotations), (found, detections)):
            numbered = [{"iscrowd": 0, **entry, "id": number} for number, entry in enumerate(entries, start=1)]
            if index is found:
                for entry in numbered:
                    entry["area"] = entry["bbox"][2] * entry["bbox"][3]
            index.dataset = {"images": list(images), "annotations": numbered, "categories": categories}
            index.createIndex()
        if iou_type == "segm":
            from pycocotools import mask

            for entry in found.dataset["annotations"]:
                counts = entry["segmentation"]["counts"]
                native = counts.encode() if isinstance(counts, str) else counts
                entry["area"] = float(mask.area({**entry["segmentation"], "counts": native}))
        evaluator = COCOeval(truth, found, iou_type)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def merged(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same in one category."""
    return [{**entry, "category_id": 1} for entry in entries]


def class_ap(evaluator: COCOeval) -> dict[int, np.ndarray]:
    """AP, AP50 and AP75 of each class that has an object."""
    scores = {}
    for place, category in enumerate(evaluator.params.catIds):
        precision = evaluator.eval["precision"][:, :, place, 0, 2]
        if precision.max() > -1:
            scores[category] = np.array([precision.mean(), precision[0].mean(), precision[5].mean()])
    return scores
