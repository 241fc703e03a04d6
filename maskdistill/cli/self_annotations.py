"""Write the annotations of a round of self-training, as a COCO dataset of the training images.

They are the confident detections of the previous round's detector, and those annotations it was trained on
that no such detection covers. One shard of candidates is in memory at a time.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maskdistill.annotations.index import AnnotationIndex, read_index
from maskdistill.annotations.self_training import next_annotations
from maskdistill.annotations.types import Annotation
from maskdistill.annotations.written import write_annotations
from maskdistill.cli.common import add_common, start
from maskdistill.clusters.assignments import shard_number
from maskdistill.config import SelfTrainingConfig, parse_section
from maskdistill.data.stream import usable_shards
from maskdistill.detector.types import Candidate
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. --params holds round_score and round_overlap, as in section detector."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument(
        "--annotations", required=True, metavar="JSON", help="what the last detector was trained on"
    )
    parser.add_argument("--index", required=True, metavar="H5", help="index of --annotations")
    parser.add_argument(
        "--candidates", required=True, nargs="+", metavar="JSON", help="what it found, in all shards"
    )
    parser.add_argument("--output", required=True, metavar="JSON")
    parser.add_argument(
        "--output-index", required=True, metavar="H5", help="where each image's annotations lie in --output"
    )
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Write the next round's ``annotations.json`` and its index."""
    start(args, "self_annotations")
    config = parse_section(SelfTrainingConfig, args.params)
    before = read_index(args.annotations, args.index)
    inputs = {f"candidates/{Path(path).name}": path for path in args.candidates}
    inputs |= {"annotations": args.annotations, "manifest": args.manifest}
    images, total, new = write_annotations(
        args.output,
        args.output_index,
        self_annotations(args, config, before),
        args.manifest,
        before.num_clusters,
        "self_annotations",
        config.model_dump(mode="json", exclude={"rounds"}),
        inputs,
    )
    counts = (images, total, new, total - new)
    log.info("%d images, %d annotations: %d found by the detector, %d of the round before", *counts)


def self_annotations(
    args: argparse.Namespace, config: SelfTrainingConfig, before: AnnotationIndex
) -> Iterator[tuple[Annotation, bool]]:
    """Annotations of all training images, ordered by image, and whether the detector found them."""
    files = {shard_number(path): path for path in args.candidates}
    next_id = 1
    for shard, rows in usable_shards(args.manifest, ("image_id", "height", "width", "train")):
        if shard not in files:
            raise MaskDistillError(
                f"--candidates: shard {shard} is missing; give the candidates of every shard"
            )
        found = by_image(read_json(files[shard])["candidates"])
        rows = rows[rows["train"]].sort_values("image_id")
        ids, heights, widths = (rows[name].tolist() for name in ("image_id", "height", "width"))
        for image_id, height, width in zip(ids, heights, widths, strict=True):
            records, sure = next_annotations(
                found.get(image_id, []),
                of_image(before, image_id),
                (height, width),
                config.round_score,
                config.round_overlap,
                next_id,
            )
            next_id += len(records)
            yield from ((record, place < sure) for place, record in enumerate(records))


def by_image(candidates: list[Candidate]) -> dict[int, list[Candidate]]:
    """Candidates of each image, in the order of the file."""
    found: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault(candidate["image_id"], []).append(candidate)
    return found


def of_image(index: AnnotationIndex, image_id: int) -> list[Annotation]:
    """Its annotations; none where the file has none."""
    place = int(np.searchsorted(index.image_id, image_id))
    there = place < len(index.image_id) and index.image_id[place] == image_id
    return index.read(place) if there else []
