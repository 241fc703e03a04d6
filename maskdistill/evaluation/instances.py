"""What instance scores need from an image: detections, objects, and overlaps of their masks.

Overlaps are computed once, image by image, so that no mask need be kept and all protocols can use them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from maskdistill.detector.types import Found
from maskdistill.evaluation.types import TrueAnnotation
from maskdistill.formats import rle
from maskdistill.formats.rle import RLE

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageInstances:
    """Detections and objects of one image, without their masks.

    Attributes:
        image_id: number of the image.
        scores: float64 (D,) score of each detection, in the order of the file.
        labels: int64 (D,) its category.
        areas: float64 (D,) its number of pixels.
        boxes: float64 (D, 4) xywh in pixels.
        true_labels: int64 (M,) class of each object.
        true_areas: float64 (M,) area given in the ground truth, in pixels.
        true_boxes: float64 (M, 4) xywh in pixels.
        crowd: bool (M,) whether it is a region of many objects.
        overlaps: float64 (D, M) IoU; for a crowd region, the share of the detection that lies in it.
    """

    image_id: int
    scores: Floats
    labels: Integers
    areas: Floats
    boxes: Floats
    true_labels: Integers
    true_areas: Floats
    true_boxes: Floats
    crowd: npt.NDArray[np.bool_]
    overlaps: Floats

    def take(
        self, detections: Sequence[int] | Integers, objects: Sequence[int] | Integers
    ) -> "ImageInstances":
        """A selection of detections and objects, by their indices, int (d,) and (m,)."""
        found, true = np.asarray(detections, np.int64), np.asarray(objects, np.int64)
        return replace(
            self,
            scores=self.scores[found],
            labels=self.labels[found],
            areas=self.areas[found],
            boxes=self.boxes[found],
            true_labels=self.true_labels[true],
            true_areas=self.true_areas[true],
            true_boxes=self.true_boxes[true],
            crowd=self.crowd[true],
            overlaps=self.overlaps[np.ix_(found, true)],
        )


def image_instances(
    image_id: int,
    detections: Sequence[Found],
    annotations: Sequence[TrueAnnotation],
    iou_type: Literal["segm", "bbox"] = "segm",
) -> ImageInstances:
    """Compare all detections of an image with all of its objects.

    Args:
        image_id: number of the image.
        detections: of this image.
        annotations: ground truth of this image, with masks if masks are compared.
        iou_type: whether masks (RLE of one size) or boxes (xywh in pixels) are compared.
    """
    crowd = np.array([bool(annotation["iscrowd"]) for annotation in annotations], dtype=np.bool_)
    boxes, true_boxes = (_boxes(entries) for entries in (detections, annotations))
    areas = boxes[:, 2] * boxes[:, 3]
    if iou_type == "segm":
        areas = np.array([rle.area(detection["segmentation"]) for detection in detections], dtype=np.float64)
    overlaps = np.zeros((len(detections), len(annotations)))
    if overlaps.size:
        if iou_type == "segm":
            overlaps = rle.iou(_masks(detections), _masks(annotations), crowd)
        else:
            overlaps = np.asarray(coco_mask.iou(boxes, true_boxes, crowd.tolist()), dtype=np.float64)
    return ImageInstances(
        image_id=image_id,
        scores=np.array([detection["score"] for detection in detections], dtype=np.float64),
        labels=np.array([detection["category_id"] for detection in detections], dtype=np.int64),
        areas=areas,
        boxes=boxes,
        true_labels=np.array([annotation["category_id"] for annotation in annotations], dtype=np.int64),
        true_areas=np.array([annotation["area"] for annotation in annotations], dtype=np.float64),
        true_boxes=true_boxes,
        crowd=crowd,
        overlaps=overlaps,
    )


def _boxes(entries: Sequence[Found] | Sequence[TrueAnnotation]) -> Floats:
    return np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)


def _masks(entries: Sequence[Found] | Sequence[TrueAnnotation]) -> list[RLE]:
    return [entry["segmentation"] for entry in entries]
