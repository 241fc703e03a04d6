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
probe_crf  the same for predictions that a dense CRF sharpened.

Boundary IoU is of the semantic maps, under the matching that the mean IoU found. Where there is AP, it is scored by
the protocols of the configuration too (see maskdistill/evaluation/protocols.py); "ap", "ap50" and "ap75" are those of
agnostic_multi.

Detections are read shard by shard and images are scored in one process a granted thread; no mask is kept.
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from maskdistill.cli.common import add_common, start
from maskdistill.cli.evaluation_inputs import (
    Detection,
    Detections,
    candidate_shards,
    find_labels,
    load_ground_truth,
    mask_shards,
    paint,
    read_labels,
    read_semantic,
)
from maskdistill.cli.option_types import whole
from maskdistill.config import EvaluationConfig, parse_section
from maskdistill.evaluation.boundaries import BoundaryIoU, boundary_counts
from maskdistill.evaluation.clustering import pseudo_target
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage
from maskdistill.evaluation.instances import ImageInstances, image_instances
from maskdistill.evaluation.localisation import largest_component_box
from maskdistill.evaluation.matching import Matching
from maskdistill.evaluation.protocols import protocol_scores
from maskdistill.evaluation.semantic import Confusions, confusion_matrix, nonzero_cells
from maskdistill.evaluation.summary import describe_confusions, summarise, summarise_clusters
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import absent, write_json
from maskdistill.runtime.processes import in_forks
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")
Labels = npt.NDArray[np.integer]
Item = tuple[TruthImage, list[Detection]]
Groups = Callable[[], Iterator[list[Item]]]
R = TypeVar("R")
NEEDS = {
    "masks": ("masks", "assignments"),
    "detector": ("candidates", "label_dirs"),
    "segmenter": ("label_dirs",),
    "segmenter_crf": ("label_dirs",),
    "probe": ("label_dirs",),
    "probe_crf": ("label_dirs",),
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
    parser.add_argument(
        "--num-clusters", required=True, type=whole(1), metavar="K", help="clusters, without background"
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="of the bootstrap (default: 0)")
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser)


class ImageScores(NamedTuple):
    """What one image adds to the scores.

    Attributes:
        cells: its confusion matrix, see :func:`nonzero_cells`; None without a semantic map.
        box: xywh of the box that is to locate an object; None without one.
        instances: its detections and objects; None where the stage detects nothing or the objects have no masks.
        targets: of the masks, clusters of all and classes of the objects that they lie on.
    """

    cells: tuple[list[int], list[int]] | None
    box: list[float] | None
    instances: ImageInstances | None
    targets: tuple[list[int], list[int]]


def run(args: argparse.Namespace) -> None:
    """Score and write the JSON."""
    config = parse_section(EvaluationConfig, args.params)
    start(args, "evaluation")
    for name in NEEDS[args.stage]:
        if not getattr(args, name):
            raise MaskDistillError(f"--stage {args.stage} needs --{name.replace('_', '-')}")
    inputs = _inputs(args)
    detects, located = args.stage in ("masks", "detector"), args.stage.startswith("segmenter")
    truth = load_ground_truth(args.manifest, args.ground_truth, instances=detects)
    probed = args.stage.startswith("probe")
    matching: Matching = "none" if probed else config.matching
    num_labels = len(truth.class_names) - 1 if probed else args.num_clusters
    shape = (num_labels + 1, len(truth.class_names))

    def predict(item: Item) -> Labels:
        image, masks = item
        if args.stage == "masks":
            return paint(image, masks)
        return read_labels(find_labels(args.label_dirs, image.key), image, num_labels)

    def score(item: Item) -> ImageScores:
        image, detections = item
        labels = predict(item) if image.has_semantic or located else None
        cells, box = None, top_box(detections)
        if labels is not None and image.has_semantic:
            cells = nonzero_cells(confusion_matrix(labels, read_semantic(args.ground_truth, image, truth), *shape))
        if labels is not None and located and (region := largest_component_box(labels)) is not None:
            box = region.tolist()
        instances = image_instances(image.id, detections, image.annotations) if detects and image.has_masks else None
        grouped = args.stage == "masks" and image.evaluated
        targets = pseudo_targets(image, detections) if grouped else ([], [])
        return ImageScores(cells, box, instances, targets)

    results = _of_all_images(score, partial(_groups, args, truth, True), args.threads, truth)
    confusions, mapped = Confusions(*shape), []
    for number, result in results.items():
        if result.cells is not None:
            confusions.add_cells(*result.cells)
            mapped.append(number)
    boxes = {number: result.box for number, result in results.items() if result.box is not None}
    instances = [result.instances for result in results.values() if result.instances is not None]
    scored = (None if probed else boxes, instances if detects else None)
    scores = summarise(truth, confusions, *scored, matching, config.bootstrap, args.seed)
    if mapped:
        scores |= describe_confusions(truth, confusions, mapped, scores["matching"])
    if detects:
        sampled = (config.protocols, config.bootstrap, args.seed)
        scores |= protocol_scores(instances, args.num_clusters, truth.class_names, *sampled)
    if args.stage == "masks":
        pairs = [result.targets for result in results.values()]
        scores |= summarise_clusters(*([value for pair in pairs for value in pair[side]] for side in (0, 1)))
    groups = partial(_groups, args, truth, args.stage == "masks")
    scores["boundary_iou"] = score_boundaries(args, truth, predict, groups, scores["matching"])
    params = config.model_dump() | {
        "matching": matching,
        "stage": args.stage,
        "num_clusters": args.num_clusters,
        "seed": args.seed,
    }
    provenance = make_provenance("evaluation", params, inputs)
    write_json(args.output, {"provenance": provenance, "stage": args.stage, **scores})
    log.info("%s: mIoU %s, AP50 %s, CorLoc %s", args.stage, *(_text(scores[n]) for n in ("miou", "ap50", "corloc")))


def top_box(detections: Sequence[Detection]) -> list[float] | None:
    """Box xywh of the top-scoring detection, the first on ties."""
    if not detections:
        return None
    best: list[float] = max(detections, key=lambda detection: float(detection["score"]))["bbox"]
    return best


def pseudo_targets(image: TruthImage, masks: Sequence[Detection]) -> tuple[list[int], list[int]]:
    """Clusters of an image's masks, and classes of the objects that their boxes overlap best; none without objects."""
    if not image.annotations:
        return [], []
    boxes, classes = image.boxes(crowd=True), image.classes()
    return [mask["category_id"] for mask in masks], [pseudo_target(mask["bbox"], boxes, classes) for mask in masks]


def score_boundaries(
    args: argparse.Namespace,
    truth: GroundTruth,
    predict: Callable[[Item], Labels],
    groups: Groups,
    matching: Mapping[str, int | None],
) -> float | None:
    """Boundary IoU in percent of the classes that labels are matched with; None without a semantic map."""
    classes = len(truth.class_names)
    class_of = np.full(len(matching), classes, dtype=np.uint8)
    for label, matched in matching.items():
        class_of[int(label)] = classes if matched is None else matched

    def count(item: Item) -> npt.NDArray[np.int64] | None:
        if not item[0].has_semantic:
            return None
        return boundary_counts(class_of[predict(item)], read_semantic(args.ground_truth, item[0], truth), classes)

    boundaries, images = BoundaryIoU(classes), 0
    for counts in _of_all_images(count, groups, args.threads, truth).values():
        if counts is not None:
            boundaries.add(counts)
            images += 1
    return 100 * boundaries.mean() if images else None


def _of_all_images(work: Callable[[Item], R], groups: Groups, processes: int, truth: GroundTruth) -> dict[int, R]:
    """Results of ``work`` by image id, in the order of the ground truth; a group's detections are gone after it."""
    done = (pair for group in groups() for pair in zip(group, in_forks(work, group, processes), strict=True))
    results = {image.id: result for (image, _), result in progress(done, len(truth.images), "evaluation")}
    return {image.id: results[image.id] for image in truth.images}


def _groups(args: argparse.Namespace, truth: GroundTruth, with_detections: bool) -> Iterator[list[Item]]:
    """All images once: those of each shard with their detections, if they are wanted, then all others."""
    left = {image.id: image for image in truth.images}
    shards: Iterator[Detections] = iter(())
    if with_detections and args.stage == "masks":
        shards = mask_shards(args.masks, args.assignments, args.num_clusters, truth)
    elif with_detections and args.stage == "detector":
        shards = candidate_shards(args.candidates, args.num_clusters, truth)
    for detections in shards:
        yield [(left.pop(number), found) for number, found in detections.items()]
    yield [(image, []) for image in left.values()]


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
            raise absent(path)
    return inputs


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
