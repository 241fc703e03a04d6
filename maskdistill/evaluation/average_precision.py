"""COCO's twelve numbers from given overlaps, computed by the C++ evaluator of faster-coco-eval [P §A.4]."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

from maskdistill.evaluation.instances import Floats, ImageInstances

STATS = (
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large",
)  # fmt: skip
_Entry: TypeAlias = dict[str, Any]
ABSENT = -1.0
AGNOSTIC = 1


@dataclass(frozen=True)
class AveragePrecision:
    """Scores as fractions of 1; -1 where there is no object to find.

    Attributes:
        stats: float64 (12,), see ``STATS``: precision averaged over recall, at most 100 detections an image
            and class, IoU 0.50 to 0.95, all classes; small is below 32², large from 96² pixels.
        by_class: float64 (3,) AP, AP50 and AP75 of each class that has an object.
        curves: float64 (10, 101) precision by IoU 0.50 to 0.95 and by recall 0, 0.01, ... 1, of each class
            that has an object; of category 1 if classes do not count.
    """

    stats: Floats
    by_class: dict[int, Floats]
    curves: dict[int, Floats]


def average_precision(images: Sequence[ImageInstances], class_agnostic: bool = False) -> AveragePrecision:
    """Score detections against objects of their own class; equals COCOeval's summary.

    Equal scores keep the order of image ids and, within an image, the order of detections. Detections of a
    class without objects are left out.

    Args:
        images: the images that count, each once.
        class_agnostic: put everything into one category first. (COCOeval's ``useCats = 0`` is not the same:
            it drops detections whose category the ground truth lacks, and orders ties by category.)
    """
    if class_agnostic:
        classes = [AGNOSTIC] if any(image.true_labels.size for image in images) else []
    else:
        classes = np.unique(
            np.concatenate([np.zeros(0, np.int64), *(image.true_labels for image in images)])
        ).tolist()
    if not classes:
        return AveragePrecision(np.full(len(STATS), ABSENT), {}, {})
    evaluator = _GivenOverlaps(images, classes, class_agnostic)
    evaluator.run()
    precision = evaluator.eval["precision"][
        :, :, :, 0, -1
    ]  # thresholds, recalls, classes; all areas, 100 detections
    curves = {c: np.asarray(precision[:, :, i], np.float64) for i, c in enumerate(classes)}
    curves = {c: values for c, values in curves.items() if values[0, 0] != ABSENT}
    by_class = {} if class_agnostic else {c: _class_ap(values) for c, values in curves.items()}
    return AveragePrecision(np.asarray(evaluator.stats, dtype=np.float64), by_class, curves)


def percent(value: float) -> float | None:
    """A score in percent, None if there was nothing to find."""
    return None if value == ABSENT else 100 * float(value)


def _class_ap(precision: npt.NDArray[np.floating]) -> Floats:
    """AP, AP50 and AP75 from precision (thresholds, recalls)."""
    return np.array([precision.mean(), precision[0].mean(), precision[5].mean()], dtype=np.float64)


class _GivenOverlaps(COCOeval_faster):  # type: ignore[misc]
    """The library's evaluator with given overlaps; it is set to compare boxes, so it looks for no masks."""

    def __init__(self, images: Sequence[ImageInstances], classes: list[int], class_agnostic: bool) -> None:
        self._images = {image.image_id: image for image in images}
        self._agnostic = class_agnostic
        ids = [{"id": number} for number in self._images]
        categories = [{"id": number} for number in classes]
        truth = _index(ids, categories, (entry for image in images for entry in self._objects(image)))
        found = _index(ids, categories, (entry for image in images for entry in self._detections(image)))
        super().__init__(truth, found, "bbox", print_function=lambda _: None)

    def computeIoU(self, imgId: int, catId: int) -> Floats:
        """Overlaps (D, M) in a category: the best detections that count, and the objects in order."""
        image = self._images[imgId]
        best = np.argsort(-image.scores, kind="stable")
        objects = np.arange(image.true_labels.size)
        if not self._agnostic:
            best = best[image.labels[best] == catId]
            objects = np.flatnonzero(image.true_labels == catId)
        return image.overlaps[np.ix_(best[: self.params.maxDets[-1]], objects)]

    def _objects(self, image: ImageInstances) -> Iterable[_Entry]:
        columns = (image.true_labels.tolist(), image.true_areas.tolist(), image.crowd.tolist())
        for label, area, crowd in zip(*columns, strict=True):
            category = AGNOSTIC if self._agnostic else label
            yield {"image_id": image.image_id, "category_id": category, "area": area, "iscrowd": int(crowd)}

    def _detections(self, image: ImageInstances) -> Iterable[_Entry]:
        columns = (image.labels.tolist(), image.areas.tolist(), image.scores.tolist())
        for label, area, score in zip(*columns, strict=True):
            category = AGNOSTIC if self._agnostic else label
            yield {"image_id": image.image_id, "category_id": category, "area": area, "score": score}


def _index(ids: list[dict[str, int]], categories: list[dict[str, int]], entries: Iterable[_Entry]) -> COCO:
    numbered = [{"id": number, **entry} for number, entry in enumerate(entries, start=1)]
    coco = COCO()
    coco.dataset = {"images": ids, "annotations": numbered, "categories": categories}
    coco.createIndex()
    return coco
