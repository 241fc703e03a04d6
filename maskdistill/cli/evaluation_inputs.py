"""What the entry points that score read: ground truth, label maps, and detections shard by shard.

Every reader checks what it reads against the ground truth's images; of other images nothing is kept.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill.clusters.assignments import open_assignments, shard_number
from maskdistill.data.manifest import ok_images, read_manifest
from maskdistill.detector.types import Candidate
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage, parse_ground_truth
from maskdistill.evaluation.semantic import IGNORE
from maskdistill.formats import rle
from maskdistill.formats.label_png import read_label_png
from maskdistill.masks.types import MaskRecord
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json

log = logging.getLogger("maskdistill")
Detections = dict[int, list[Candidate]]
"""Detections by image id, in file order."""


def load_ground_truth(manifest: str, ground_truth: str, instances: bool = False) -> GroundTruth:
    """Read ``instances.json``, restricted to the manifest's readable images, and of these to those to score.

    Which these are ``instances.json`` says itself (``evaluated``), or else the manifest's column ``eval``.

    Args:
        instances: also those that are there for instance AP alone.
    """
    images = ok_images(read_manifest(manifest))
    values = read_json(ground_truth)
    usable = dict(zip(images["image_id"].tolist(), images["eval"].tolist(), strict=True))
    said = {int(image["id"]): image.get("evaluated") for image in values.get("images", ())}
    scored = {
        number
        for number, listed in usable.items()
        if number in said and (instances or (listed if said[number] is None else said[number]))
    }
    truth = parse_ground_truth(values, ground_truth, scored)
    left_out = len(values["images"]) - len(truth.images)
    if left_out:
        log.warning(
            "%d images of %s are not scored: quarantined or not for evaluation", left_out, ground_truth
        )
    return truth


def read_semantic(ground_truth: str, image: TruthImage, truth: GroundTruth) -> npt.NDArray[np.uint8]:
    """Ground-truth map uint8 (H, W) of an image, from ``semantic/`` beside ``instances.json``."""
    path = Path(ground_truth).parent / "semantic" / f"{image.key}.png"
    target = read_label_png(path)
    check_size(path, target.shape, image)
    if np.where(target == IGNORE, 0, target).max(initial=0) >= len(truth.class_names):
        raise MaskDistillError(
            f"{path}: holds a class above {len(truth.class_names) - 1}; run ground_truth again"
        )
    return target


def find_labels(folders: Iterable[str], key: str) -> Path:
    """The one file ``<key>.png`` below any of the folders."""
    places = [Path(folder) / f"{key}.png" for folder in folders]
    for path in places:
        if path.is_file():
            return path
    looked = ", ".join(str(path.parent) for path in places)
    raise MaskDistillError(
        f"{key}.png: no label map of this evaluation image in {looked}; run its shard again"
    )


def read_labels(path: Path, image: TruthImage, num_clusters: int) -> npt.NDArray[np.uint8]:
    """Predicted label map uint8 (H, W), checked against the image's size and the number of clusters."""
    labels = read_label_png(path)
    check_size(path, labels.shape, image)
    if labels.max(initial=0) > num_clusters:
        raise MaskDistillError(
            f"{path}: holds label {labels.max()}, above the {num_clusters} clusters; make it again"
        )
    return labels


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


def check_size(path: str | Path, size: Iterable[int], image: TruthImage) -> None:
    """Refuse a result of another size than its image's.

    Args:
        path: the file that holds it, to be named.
        size: its height and width.
        image: of the ground truth.

    Raises:
        MaskDistillError: the sizes differ.
    """
    height, width = size
    if (height, width) != (image.height, image.width):
        raise MaskDistillError(
            f"{path}: {width} x {height} pixels where the ground truth of {image.key} has {image.width} x"
            f" {image.height}; both must have the image's original size, make the wrong one again"
        )


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
    """What later stages need of a shard's entries; ``seen`` are the images of earlier shards, and is added
    to.
    """
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
