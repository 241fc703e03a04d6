"""Detections of the evaluation images, shard by shard: the initial masks, and the detector's candidates.

Every reader checks what it reads against the ground truth's images; of other images nothing is kept.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill.cli.evaluation_inputs import check_size
from maskdistill.clusters.assignments import open_assignments, shard_number
from maskdistill.detector.types import Candidate
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage
from maskdistill.formats import rle
from maskdistill.masks.types import MaskRecord
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json

Detections = dict[int, list[Candidate]]
"""Detections by image id, in file order."""


def read_masks(shards: Iterable[str], assignments: str, num_clusters: int, truth: GroundTruth) -> Detections:
    """Masks of all evaluation images in the shards, by image id, also of those without a mask.

    ``category_id`` is 1 + cluster.
    """
    found: Detections = {image.id: [] for image in truth.images}
    for shard in mask_shards(shards, assignments, num_clusters, truth):
        found |= shard
    return found


def mask_shards(
    shards: Iterable[str], assignments: str, num_clusters: int, truth: GroundTruth
) -> Iterator[Detections]:
    """Masks of the evaluation images shard by shard, with ``category_id`` 1 + cluster."""
    seen: set[int] = set()
    for shard in shards:
        masks = _part(shard, "masks")
        with open_assignments(assignments, num_clusters) as table:
            clusters = table.of_masks(
                shard_number(shard), [mask["image_id"] for mask in masks], shard
            ).cluster
        yield _by_image(shard, masks, 1 + clusters.astype(np.int64), truth, seen)


def candidate_shards(shards: Iterable[str], num_clusters: int, truth: GroundTruth) -> Iterator[Detections]:
    """Candidates of the evaluation images shard by shard; ``category_id`` is 1 + cluster."""
    seen: set[int] = set()
    for shard in shards:
        candidates = _part(shard, "candidates")
        labels = np.array([candidate["category_id"] for candidate in candidates], dtype=np.int64)
        if labels.min(initial=1) < 1 or labels.max(initial=1) > num_clusters:
            raise MaskDistillError(
                f"{shard}: holds categories from {labels.min()} to {labels.max()} where {num_clusters} "
                f"clusters are 1 to {num_clusters}; run the detector's stages again"
            )
        yield _by_image(shard, candidates, labels, truth, seen)


def paint(image: TruthImage, masks: Iterable[Candidate]) -> npt.NDArray[np.int32]:
    """Label map int32 (H, W) of an image's masks; where they overlap the first one is on top."""
    labels = np.zeros((image.height, image.width), dtype=np.int32)
    for mask in masks:
        labels[rle.decode(mask["segmentation"]) & (labels == 0)] = mask["category_id"]
    return labels


def _part(path: str, key: str) -> Any:
    values = read_json(path)
    if not isinstance(values, dict) or key not in values:
        raise MaskDistillError(f"{path}: has no {key!r}; give the file that the stage before has written")
    return values[key]


def _by_image(
    shard: str,
    entries: Iterable[Candidate] | Iterable[MaskRecord],
    labels: npt.NDArray[np.int64],
    truth: GroundTruth,
    seen: set[int],
) -> Detections:
    """A shard's entries, as scores need them; adds its images to ``seen``, those of earlier shards."""
    images = {image.id: image for image in truth.images}
    found: Detections = {}
    for entry, label in zip(entries, labels.tolist(), strict=True):
        number = entry["image_id"]
        if number in seen:
            raise MaskDistillError(
                f"{shard}: image {number} stands in an earlier shard too; give each shard once"
            )
        if number in images:
            check_size(shard, entry["segmentation"]["size"], images[number])
            kept: Candidate = {
                "image_id": number,
                "category_id": label,
                "score": entry["score"],
                "bbox": entry["bbox"],
                "segmentation": entry["segmentation"],
            }
            found.setdefault(number, []).append(kept)
    seen.update(found)
    return found
