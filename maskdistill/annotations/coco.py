"""Pseudo-annotations: the distilled masks with their clusters, as a COCO dataset [P §3.3]."""

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from maskdistill.annotations.types import Annotation, Category
from maskdistill.formats import rle
from maskdistill.masks.types import MaskRecord
from maskdistill.runtime.errors import MaskDistillError


def categories(num_clusters: int) -> list[Category]:
    """Exactly K unnamed categories, ``cluster-00``, ``cluster-01``, ..., with ids from 1."""
    digits = max(2, len(str(num_clusters - 1)))
    return [{"id": 1 + cluster, "name": f"cluster-{cluster:0{digits}d}"} for cluster in range(num_clusters)]


def farthest_kept(distances: npt.NDArray[np.float32], keep: float) -> float:
    """The ``ceil(keep * n)``-th smallest of the distances (n,); equal distances are kept too."""
    count = math.ceil(keep * len(distances))
    return float(np.partition(distances, count - 1)[count - 1]) if count else np.inf


def annotations(
    masks: Iterable[tuple[MaskRecord, int]],
    sizes: Mapping[int, tuple[int, int]],
    num_clusters: int,
    first_id: int = 1,
) -> Iterator[Annotation]:
    """COCO annotations that detectors can be trained on, in the order given.

    Boxes and areas are measured on the masks themselves; segmentations are RLE, so nothing is lost.
    Masks without a pixel are dropped.

    Args:
        masks: pairs of a mask and its cluster, 0..K-1.
        sizes: image id -> (height, width) of the training images.
        num_clusters: K.
        first_id: id of the first annotation; ``category_id`` is 1 + cluster.

    Raises:
        MaskDistillError: if a mask's image has no size here, its size is not its image's, or a cluster is not
            below K.
    """
    for mask, cluster in masks:
        image_id, segmentation = mask["image_id"], mask["segmentation"]
        if not 0 <= cluster < num_clusters:
            raise MaskDistillError(
                f"the mask of image {image_id} has cluster {cluster}, but there are {num_clusters}"
            )
        size = list(sizes[image_id]) if image_id in sizes else None
        if size is None or list(segmentation["size"]) != size:
            raise MaskDistillError(
                f"the mask of image {image_id} has size {segmentation['size']}, its image {size};"
                " make the masks again with this manifest"
            )
        area = rle.area(segmentation)
        if area == 0:
            continue
        yield {
            "id": first_id,
            "image_id": image_id,
            "category_id": 1 + cluster,
            "bbox": rle.bbox(segmentation),
            "area": area,
            "segmentation": {"size": size, "counts": segmentation["counts"]},
            "iscrowd": 0,
            "score": 1.0,
        }
        first_id += 1
