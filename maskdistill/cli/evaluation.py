"""Score one stage's output against the ground truth of the evaluation images.

Clusters are matched with classes here, once, and for scoring only. What is compared:

masks      semantic: each image's masks painted with the labels of their clusters; AP: all masks, each with score 1;
           CorLoc, which is of one box an image as in LOST: the box of the first mask; also purity, accuracy, NMI
           and ARI of the clusters of all masks.
detector   semantic: the pseudo-label PNGs; AP: all candidates; CorLoc: the box of the top-scoring candidate.
segmenter  semantic: the predicted PNGs; CorLoc: the tight box of the largest 4-connected region of one label;
           AP: null, for a semantic map has neither instances nor scores.
segmenter_crf  the same for predictions that a dense CRF sharpened.
probe      semantic: the probe's predicted PNGs, whose labels are classes already, so nothing is matched.

Boundary IoU is of the semantic maps, under the matching that the mean IoU found.
"""

import argparse
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill import rle
from maskdistill.assignments import open_assignments, shard_number
from maskdistill.cli.common import add_common, start
from maskdistill.config import EvaluationConfig, parse_section
from maskdistill.data.manifest import ok_images, read_manifest
from maskdistill.evaluation.boundaries import BoundaryIoU
from maskdistill.evaluation.clustering import pseudo_target
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage, parse_ground_truth
from maskdistill.evaluation.localisation import largest_component_box
from maskdistill.evaluation.matching import Matching
from maskdistill.evaluation.semantic import IGNORE, Confusions
from maskdistill.evaluation.summary import summarise, summarise_clusters
from maskdistill.palette import read_label_png
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")
Labels = npt.NDArray[np.integer]
Detection = dict[str, Any]
NEEDS = {
    "masks": ("masks", "assignments"),
    "detector": ("candidates", "label_dirs"),
    "segmenter": ("label_dirs",),
    "segmenter_crf": ("label_dirs",),
    "probe": ("label_dirs",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``maskdistill evaluation``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--stage", required=True, choices=NEEDS, help="whose output is scored")
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument(
        "--ground-truth", required=True, metavar="JSON", help="instances.json; semantic/ lies beside it"
    )
    parser.add_argument("--masks", nargs="+", metavar="JSON", help="mask shards (stage masks)")
    parser.add_argument("--assignments", metavar="H5", help="clusters of the masks (stage masks)")
    parser.add_argument("--candidates", nargs="+", metavar="JSON", help="candidate shards (stage detector)")
    parser.add_argument("--label-dirs", nargs="+", metavar="DIR", help="folders of label PNGs (all stages but masks)")
    parser.add_argument("--num-clusters", required=True, type=int, metavar="K", help="clusters, without background")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Score and write the JSON."""
    config = parse_section(EvaluationConfig, args.params)
    start(args, "evaluation")
    for name in NEEDS[args.stage]:
        if not getattr(args, name):
            raise MaskDistillError(f"--stage {args.stage} needs --{name.replace('_', '-')}")
    inputs = _inputs(args)
    truth = load_ground_truth(args.manifest, args.ground_truth)

    matching: Matching = "none" if args.stage == "probe" else config.matching
    num_labels = len(truth.class_names) - 1 if args.stage == "probe" else args.num_clusters
    extra: dict[str, float | None] = {}
    detections: list[Detection] | None = None
    predict: Callable[[TruthImage], Labels]
    if args.stage == "masks":
        painted = read_masks(args.masks, args.assignments, args.num_clusters, truth)
        detections = [mask for masks in painted.values() for mask in masks]
        extra = score_clusters(painted, truth)

        def predict(image: TruthImage) -> Labels:
            return paint(image, painted[image.id])
    else:
        if args.stage == "detector":
            detections = read_candidates(args.candidates, truth)

        def predict(image: TruthImage) -> Labels:
            return read_labels(find_labels(args.label_dirs, image.key), image, num_labels)

    confusions = Confusions(num_labels + 1, len(truth.class_names))
    boxes: dict[int, npt.ArrayLike] = {} if detections is None else top_boxes(detections)
    for image in progress(truth.images, len(truth.images), "evaluation"):
        if not image.has_semantic and detections is not None:
            continue
        labels = predict(image)
        if image.has_semantic:
            confusions.add(labels, read_semantic(args.ground_truth, image, truth))
        if args.stage.startswith("segmenter") and (box := largest_component_box(labels)) is not None:
            boxes[image.id] = box

    scored_boxes = None if args.stage == "probe" else boxes
    scores = summarise(truth, confusions, scored_boxes, detections, matching, config.bootstrap, args.seed)
    scores["boundary_iou"] = score_boundaries(args.ground_truth, truth, predict, scores["matching"])
    params = config.model_dump() | {
        "matching": matching,
        "stage": args.stage,
        "num_clusters": args.num_clusters,
        "seed": args.seed,
    }
    provenance = make_provenance("evaluation", params, inputs)
    write_json(args.output, {"provenance": provenance, "stage": args.stage, **scores, **extra})
    log.info("%s: mIoU %s, AP50 %s, CorLoc %s", args.stage, *(_text(scores[n]) for n in ("miou", "ap50", "corloc")))


def load_ground_truth(manifest: str, ground_truth: str) -> GroundTruth:
    """Read ``instances.json``, restricted to the manifest's readable evaluation images."""
    images = ok_images(read_manifest(manifest), eval=True)
    values = read_json(ground_truth)
    truth = parse_ground_truth(values, ground_truth, {int(number) for number in images["image_id"]})
    left_out = len(values["images"]) - len(truth.images)
    if left_out:
        log.warning("%d images of %s are not scored: quarantined or not for evaluation", left_out, ground_truth)
    return truth


def read_semantic(ground_truth: str, image: TruthImage, truth: GroundTruth) -> npt.NDArray[np.uint8]:
    """Ground-truth map uint8 (H, W) of an image, from ``semantic/`` beside ``instances.json``."""
    path = Path(ground_truth).parent / "semantic" / f"{image.key}.png"
    target = read_label_png(path)
    _check_size(path, target.shape, image)
    if target[target != IGNORE].max(initial=0) >= len(truth.class_names):
        raise MaskDistillError(f"{path}: holds a class above {len(truth.class_names) - 1}; run ground_truth again")
    return target


def find_labels(folders: Iterable[str], key: str) -> Path:
    """The one file ``<key>.png`` below any of the folders."""
    places = [Path(folder) / f"{key}.png" for folder in folders]
    for path in places:
        if path.is_file():
            return path
    looked = ", ".join(str(path.parent) for path in places)
    raise MaskDistillError(f"{key}.png: no label map of this evaluation image in {looked}; run its shard again")


def read_labels(path: Path, image: TruthImage, num_clusters: int) -> npt.NDArray[np.uint8]:
    """Predicted label map uint8 (H, W), checked against the image's size and the number of clusters."""
    labels = read_label_png(path)
    _check_size(path, labels.shape, image)
    if labels.max(initial=0) > num_clusters:
        raise MaskDistillError(f"{path}: holds label {labels.max()}, above the {num_clusters} clusters; make it again")
    return labels


def read_masks(
    shards: Iterable[str], assignments: str, num_clusters: int, truth: GroundTruth
) -> dict[int, list[Detection]]:
    """Masks of the evaluation images by image id, in file order, with ``category_id`` 1 + cluster."""
    images = {image.id: image for image in truth.images}
    found: dict[int, list[Detection]] = {number: [] for number in images}
    with open_assignments(assignments, num_clusters) as table:
        for shard in shards:
            masks = _part(shard, "masks")
            clusters = table.clusters(shard_number(shard), [mask["image_id"] for mask in masks], shard)
            for mask, cluster in zip(masks, clusters.tolist(), strict=True):
                number = mask["image_id"]
                if number in images:
                    _check_size(shard, mask["segmentation"]["size"], images[number])
                    found[number].append(_detection(mask, 1 + cluster))
    return found


def read_candidates(shards: Iterable[str], truth: GroundTruth) -> list[Detection]:
    """All candidates of the evaluation images, in file order."""
    images = {image.id: image for image in truth.images}
    found = []
    for shard in shards:
        for candidate in _part(shard, "candidates"):
            if candidate["image_id"] in images:
                _check_size(shard, candidate["segmentation"]["size"], images[candidate["image_id"]])
                found.append(_detection(candidate, candidate["category_id"]))
    return found


def paint(image: TruthImage, masks: Iterable[Mapping[str, Any]]) -> npt.NDArray[np.int32]:
    """Label map int32 (H, W) of an image's masks; where they overlap the first one is on top."""
    labels = np.zeros((image.height, image.width), dtype=np.int32)
    for mask in masks:
        labels[rle.decode(mask["segmentation"]) & (labels == 0)] = mask["category_id"]
    return labels


def top_boxes(detections: Iterable[Mapping[str, Any]]) -> dict[int, npt.ArrayLike]:
    """Box xywh of each image's top-scoring detection, by image id; the first on ties."""
    best: dict[int, Mapping[str, Any]] = {}
    for detection in detections:
        number = detection["image_id"]
        if number not in best or detection["score"] > best[number]["score"]:
            best[number] = detection
    return {number: detection["bbox"] for number, detection in best.items()}


def score_clusters(masks: Mapping[int, list[Detection]], truth: GroundTruth) -> dict[str, float | None]:
    """Purity, accuracy, NMI and ARI of the masks' clusters; images without objects do not count."""
    clusters, targets = [], []
    for image in truth.images:
        if image.annotations:
            for mask in masks[image.id]:
                clusters.append(int(mask["category_id"]))
                targets.append(pseudo_target(mask["bbox"], image.boxes(crowd=True), image.classes()))
    return summarise_clusters(clusters, targets)


def score_boundaries(
    ground_truth: str,
    truth: GroundTruth,
    predict: Callable[[TruthImage], Labels],
    matching: Mapping[str, int | None],
) -> float | None:
    """Boundary IoU in percent of the classes that labels are matched with; None without a semantic map."""
    classes = len(truth.class_names)
    images = [image for image in truth.images if image.has_semantic]
    if not images:
        return None
    class_of = np.full(len(matching), classes, dtype=np.int64)
    for label, matched in matching.items():
        class_of[int(label)] = classes if matched is None else matched
    boundaries = BoundaryIoU(classes)
    for image in progress(images, len(images), "boundaries"):
        boundaries.add(class_of[predict(image)], read_semantic(ground_truth, image, truth))
    return 100 * boundaries.mean()


def _part(path: str, key: str) -> Any:
    values = read_json(path)
    if not isinstance(values, dict) or key not in values:
        raise MaskDistillError(f"{path}: has no {key!r}; give the file that the stage before has written")
    return values[key]


def _detection(source: Mapping[str, Any], category: int) -> Detection:
    kept = {key: source[key] for key in ("image_id", "bbox", "segmentation", "score")}
    return {**kept, "category_id": category}


def _check_size(path: str | Path, size: Iterable[int], image: TruthImage) -> None:
    height, width = size
    if (height, width) != (image.height, image.width):
        raise MaskDistillError(
            f"{path}: {width} x {height} pixels where the ground truth of {image.key} has {image.width} x"
            f" {image.height}; both must have the image's original size, make the wrong one again"
        )


def _inputs(args: argparse.Namespace) -> dict[str, str | Path]:
    inputs: dict[str, str | Path] = {"manifest": args.manifest, "ground_truth": args.ground_truth}
    if args.stage == "masks":
        inputs["assignments"] = args.assignments
        inputs |= {f"masks/{Path(path).name}": path for path in args.masks}
    if args.stage == "detector":
        inputs |= {f"candidates/{Path(path).name}": path for path in args.candidates}
    if args.stage != "masks":
        inputs |= {f"labels/{Path(path).name}": Path(path) / "summary.json" for path in args.label_dirs}
    for path in inputs.values():
        if not Path(path).is_file():
            raise MaskDistillError(f"{path}: no such file; run the stage that makes it first")
    return inputs


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
