"""Pseudo-annotations: one distilled mask an image with its cluster, as a COCO dataset [P §3.3]."""

from collections.abc import Mapping, Sequence
from typing import Any

from maskdistill import rle
from maskdistill.data.manifest import ImageRow
from maskdistill.runtime.errors import MaskDistillError


def category_names(num_clusters: int) -> list[str]:
    """Names of K unnamed categories: ``cluster-00``, ``cluster-01``, ... in the order of their clusters."""
    digits = max(2, len(str(num_clusters - 1)))
    return [f"cluster-{cluster:0{digits}d}" for cluster in range(num_clusters)]


def build_annotations(
    images: Sequence[ImageRow], masks: Sequence[tuple[Mapping[str, Any], int]], num_clusters: int
) -> dict[str, Any]:
    """A COCO dataset that detectors can be trained on.

    Boxes and areas are measured on the masks themselves; segmentations are RLE, so nothing is lost.
    Masks without a pixel are dropped; images without a mask stay listed.

    Args:
        images: the training images.
        masks: pairs of a mask record (``image_id``, ``segmentation``) and its cluster, 0..K-1.
        num_clusters: K.

    Returns:
        ``images``, ``annotations`` (ids from 1, ``category_id`` = 1 + cluster) in the order given, and exactly
        K ``categories``.

    Raises:
        MaskDistillError: if a mask's image is not listed, its size is not its image's, or a cluster is not below K.
    """
    sizes = {image.image_id: [image.height, image.width] for image in images}
    annotations: list[dict[str, Any]] = []
    for mask, cluster in masks:
        image_id, segmentation = mask["image_id"], mask["segmentation"]
        if not 0 <= cluster < num_clusters:
            raise MaskDistillError(f"the mask of image {image_id} has cluster {cluster}, but there are {num_clusters}")
        if list(segmentation["size"]) != sizes.get(image_id):
            raise MaskDistillError(
                f"the mask of image {image_id} has size {segmentation['size']}, its image {sizes.get(image_id)};"
                " make the masks again with this manifest"
            )
        area = rle.area(segmentation)
        if area == 0:
            continue
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": 1 + cluster,
                "bbox": rle.bbox(segmentation),
                "area": area,
                "segmentation": {"size": list(segmentation["size"]), "counts": segmentation["counts"]},
                "iscrowd": 0,
                "score": 1.0,
            }
        )
    return {
        "images": [
            {"id": image.image_id, "file_name": image.key, "width": image.width, "height": image.height}
            for image in images
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(category_names(num_clusters), start=1)],
    }
