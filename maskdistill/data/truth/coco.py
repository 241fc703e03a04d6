"""Ground truth of a COCO file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from maskdistill.data.coco_file import read_class_names
from maskdistill.data.coco_truth import CocoTruth
from maskdistill.data.manifest import ImageRow
from maskdistill.data.sources.coco import CocoData
from maskdistill.data.truth.base import SourceTruth
from maskdistill.data.truth_types import IGNORE, ImageTruth, Losses, TrueObject
from maskdistill.formats import rle

COCO_CLASSES = 80
MEASURED = 20_000
"""Pictures whose headers are read for their size, at even steps; of the others the file's own sizes count."""


class Truth(SourceTruth[CocoData]):
    """Objects of the file, and semantic maps painted from their masks."""

    measured: ClassVar[int | None] = MEASURED

    def count_classes(self, built: bool) -> int:
        """Of the file; the official files' number where the workflow has yet to build it."""
        file = str(self.data.annotations)
        return (
            COCO_CLASSES if built and not Path(file).expanduser().is_file() else len(read_class_names(file))
        )

    def read(self, images: Sequence[ImageRow], losses: Losses) -> tuple[list[str], Iterator[ImageTruth]]:
        """Of the pictures that the file has an entry for."""
        truth = CocoTruth(self.data, images, losses)
        return truth.file.names, _with_semantic(truth, self.data.ignore_border)

    def check(self, images: Sequence[ImageRow], losses: Losses) -> int:
        """Without painting anything."""
        return CocoTruth(self.data, images, losses).check()


def _with_semantic(truth: CocoTruth, ignore_border: int) -> Iterator[ImageTruth]:
    for row, objects in truth.objects():
        has_masks = all(item.segmentation is not None for item in objects)
        semantic = paint_semantic(objects, (row.height, row.width), ignore_border) if has_masks else None
        yield ImageTruth(row.image_id, objects, has_masks, semantic)


def paint_semantic(
    objects: list[TrueObject], shape: tuple[int, int], ignore_border: int = 0
) -> npt.NDArray[np.uint8]:
    """Semantic map of objects with masks, uint8 (H, W).

    Larger masks are painted first, so that smaller ones stay visible. Pixels within ``ignore_border``
    pixels (Euclidean) outside every object, and all pixels of crowds, become 255.
    """
    labels = np.zeros(shape, dtype=np.uint8)
    masks = [(item, rle.decode(item.segmentation)) for item in objects if item.segmentation is not None]
    for item, mask in sorted(masks, key=lambda pair: -int(pair[1].sum())):
        if not item.iscrowd:
            labels[mask] = item.category_id
    if ignore_border and labels.any():
        outside = labels == 0
        labels[outside & (distance_transform_edt(outside) <= ignore_border)] = IGNORE
    for item, mask in masks:
        if item.iscrowd:
            labels[mask] = IGNORE
    return labels
