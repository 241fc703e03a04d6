"""Count the pseudo-labels at a series of thresholds, over all shards, from the same candidates.

Masks are counted, whatever pseudo_labels.type says.
"""

import argparse
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from maskdistill.cli.common import add_common, start
from maskdistill.clusters.assignments import shard_number
from maskdistill.config import PseudoLabelsConfig, parse_section
from maskdistill.data.stream import usable_shards
from maskdistill.detector.types import Candidate
from maskdistill.features.store import HW
from maskdistill.pseudo_labels.painting import painting_steps
from maskdistill.pseudo_labels.summary import Counts, count_image, join, rows
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.processes import in_forks
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument(
        "--candidates", required=True, nargs="+", metavar="JSON", help="candidates of all shards"
    )
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Write the counts of all images at every threshold."""
    start(args, "label_summary")
    config = parse_section(PseudoLabelsConfig, args.params)
    files = {shard_number(path): path for path in args.candidates}
    if len(files) < len(args.candidates):
        raise MaskDistillError("--candidates: a shard is given twice; give each once")
    usable = sum(len(shapes) for _, shapes in _shapes(args.manifest))

    def all_counts() -> Iterator[Counts]:
        for shard, shapes in _shapes(args.manifest):
            if shard not in files:
                raise MaskDistillError(
                    f"--candidates: shard {shard} is missing; give the candidates of every shard"
                )
            found = _by_image(files[shard], shapes)
            yield from in_forks(partial(_count, config), found, args.threads)
            yield from (count_image([], height * width, config.compare) for height, width in shapes.values())

    total = join(progress(all_counts(), usable, "label summary"))
    settings = config.model_dump(mode="json", include={"compare", "overlap"})
    inputs = {
        "manifest": args.manifest,
        **{f"candidates/{Path(path).name}": path for path in args.candidates},
    }
    provenance = make_provenance("label_summary", settings, inputs)
    write_json(args.output, {"provenance": provenance, "images": total.images, "by_tau": rows(total)})
    log.info("%d images counted", total.images)


def _shapes(manifest: str) -> Iterator[tuple[int, dict[int, HW]]]:
    """Of each shard the image ids and sizes of all but the support set; one shard is in memory at a time."""
    for shard, listed in usable_shards(
        manifest, ("image_id", "height", "width", "train", "eval", "segmenter")
    ):
        listed = listed[listed["train"] | listed["eval"] | listed["segmenter"]]
        ids, heights, widths = (listed[name].tolist() for name in ("image_id", "height", "width"))
        if ids:
            yield shard, dict(zip(ids, zip(heights, widths, strict=True), strict=True))


def _count(config: PseudoLabelsConfig, found: tuple[HW, list[Candidate]]) -> Counts:
    (height, width), candidates = found
    steps = painting_steps(candidates, (height, width), config.overlap)
    return count_image(steps, height * width, config.compare)


def _by_image(path: str, shapes: dict[int, HW]) -> list[tuple[HW, list[Candidate]]]:
    """The candidates of a shard by image; those images are taken out of ``shapes``."""
    found: dict[int, list[Candidate]] = {}
    for candidate in read_json(path)["candidates"]:
        found.setdefault(candidate["image_id"], []).append(candidate)
    if strange := found.keys() - shapes.keys():
        raise MaskDistillError(
            f"{path}: image {min(strange)} is not a usable image of its shard; run the candidates stage "
            "again with this manifest"
        )
    return [(shapes.pop(number), candidates) for number, candidates in found.items()]
