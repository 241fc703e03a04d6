"""Score one stage's output against the ground truth of the evaluation images.

Clusters are matched with classes here, once, and for scoring only. What is compared:

masks      semantic: each image's masks painted with the labels of their clusters; AP: all masks, each with
           score 1; CorLoc, which is of one box an image as in LOST: the box of the first mask; also purity,
           accuracy, NMI and ARI of the clusters of all masks.
detector   semantic: the pseudo-label PNGs; AP: all candidates; CorLoc: the box of the top-scoring candidate.
segmenter  semantic: the predicted PNGs; CorLoc: the tight box of the largest 4-connected region of one label;
           AP: null, for a semantic map has neither instances nor scores.
segmenter_crf  the same for predictions that a dense CRF sharpened.
probe      semantic: the probe's predicted PNGs, whose labels are classes already, so nothing is matched.
probe_crf  the same for predictions that a dense CRF sharpened.

The metrics are those of maskdistill/evaluation/metrics/, one module per family; null where a stage has none.
Boundary IoU compares the semantic maps, with the matching found for the mean IoU. AP is also scored by the
configuration's protocols (see maskdistill/evaluation/protocols.py); "ap", "ap50" and "ap75" are those of
agnostic_multi.

Detections are read shard by shard, and images are scored in one process per thread; no mask is kept.
"""

import argparse
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from maskdistill.cli.common import add_common, start
from maskdistill.cli.detections import Detections, candidate_shards, mask_shards, paint
from maskdistill.cli.evaluation_inputs import (
    add_scored_images,
    find_labels,
    load_ground_truth,
    read_labels,
    read_semantic,
)
from maskdistill.cli.option_types import whole
from maskdistill.config import EvaluationConfig, parse_section
from maskdistill.detector.types import Candidate
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage
from maskdistill.evaluation.metrics.registry import Setting, View, metrics
from maskdistill.evaluation.scorer import Scorer
from maskdistill.evaluation.stages import STAGES
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import absent, write_json
from maskdistill.runtime.processes import in_forks
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")
Item = tuple[TruthImage, list[Candidate]]
Groups = Callable[[], Iterator[list[Item]]]
R = TypeVar("R")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``maskdistill evaluation``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--stage", required=True, choices=STAGES, help="stage whose output is scored")
    add_scored_images(parser)
    parser.add_argument("--masks", nargs="+", metavar="JSON", help="mask shards (stage masks)")
    parser.add_argument("--assignments", metavar="H5", help="clusters of the masks (stage masks)")
    parser.add_argument("--candidates", nargs="+", metavar="JSON", help="candidate shards (stage detector)")
    parser.add_argument(
        "--label-dirs", nargs="+", metavar="DIR", help="folders of label PNGs (all stages but masks)"
    )
    parser.add_argument(
        "--num-clusters", required=True, type=whole(1), metavar="K", help="clusters, without background"
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="of the bootstrap (default: 0)")
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Score and write the JSON."""
    config = parse_section(EvaluationConfig, args.params)
    start(args, "evaluation")
    stage = STAGES[args.stage]
    for name in stage.needs:
        if not getattr(args, name):
            raise MaskDistillError(f"--stage {args.stage} needs --{name.replace('_', '-')}")
    inputs = _inputs(args)
    truth = load_ground_truth(args.manifest, args.ground_truth, instances=stage.detects)
    setting = Setting(stage, truth, args.num_clusters, config, args.seed)
    scorer = score_images(args, setting)
    params = config.model_dump() | {
        "matching": setting.matching,
        "stage": args.stage,
        "num_clusters": args.num_clusters,
        "seed": args.seed,
    }
    provenance = make_provenance("evaluation", params, inputs)
    write_json(args.output, {"provenance": provenance, "stage": args.stage, **scorer.record()})
    told = (
        f"{metric.title} {metric.text(scorer.values[name])}"
        for name, metric in metrics("table", args.stage).items()
    )
    log.info("%s: %s", args.stage, ", ".join(told))


def score_images(args: argparse.Namespace, setting: Setting) -> Scorer:
    """Walk the images for what is scored without the matching, then for what needs it."""
    scorer, truth = Scorer(setting), setting.truth
    for matched in (False, True):
        if not scorer.families(matched):
            continue
        count = partial(_count, args, scorer, scorer.class_of if matched else None)
        groups = partial(_groups, args, truth, not matched or args.stage == "masks")
        scorer.score(_of_all_images(count, groups, args.threads, truth), matched)
    return scorer


def _count(
    args: argparse.Namespace, scorer: Scorer, class_of: npt.NDArray[np.uint8] | None, item: Item
) -> list[Any]:
    """What one image adds, before the matching is known or, with ``class_of``, after."""
    (image, detections), setting = item, scorer.setting
    read_target = partial(read_semantic, args.ground_truth, image, setting.truth)

    def read() -> npt.NDArray[np.integer]:
        if args.stage == "masks":
            return paint(image, detections)
        path = find_labels(args.label_dirs, image.key)
        return read_labels(path, image, setting.shape[0] - 1, pseudo=args.stage == "detector")

    matched = class_of is not None
    view = View(image, setting, () if matched else detections, read, read_target, class_of)
    return scorer.count(view, matched)


def _of_all_images(
    work: Callable[[Item], R], groups: Groups, processes: int, truth: GroundTruth
) -> dict[int, R]:
    """Results of ``work`` by image id, in the ground truth's order; one group in memory at a time."""
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
