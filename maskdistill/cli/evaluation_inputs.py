"""What scoring reads of images: ground truth and label maps, each checked against the other."""

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maskdistill.data.manifest import ok_images, read_manifest
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage, parse_ground_truth
from maskdistill.evaluation.semantic import IGNORE
from maskdistill.formats.label_png import read_label_png
from maskdistill.pseudo_labels.painting import UNSURE
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json

log = logging.getLogger("maskdistill")


def add_scored_images(parser: argparse.ArgumentParser) -> None:
    """Add ``--manifest`` and ``--ground-truth``, which :func:`load_ground_truth` reads."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument(
        "--ground-truth", required=True, metavar="JSON", help="instances.json; semantic/ lies beside it"
    )


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


def read_labels(path: Path, image: TruthImage, num_clusters: int, pseudo: bool) -> npt.NDArray[np.uint8]:
    """Predicted label map uint8 (H, W), checked against the image's size and the number of clusters.

    Args:
        pseudo: the map holds pseudo-labels, whose unsure pixels count as background: nothing is said there.
    """
    labels = read_label_png(path)
    if pseudo:
        labels = np.where(labels == UNSURE, np.uint8(0), labels)
    check_size(path, labels.shape, image)
    if labels.max(initial=0) > num_clusters:
        raise MaskDistillError(
            f"{path}: holds label {labels.max()}, above the {num_clusters} clusters; make it again"
        )
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
