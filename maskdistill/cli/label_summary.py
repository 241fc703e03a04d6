"""Count what pseudo-labels would be at a row of thresholds, over all shards, from the same candidates.

What is counted are masks, whatever pseudo_labels.type says.
"""

import argparse
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from maskdistill.cli.common import add_common, start
from maskdistill.config import PseudoLabelsConfig, parse_section
from maskdistill.data.manifest import ImageRow, image_rows, ok_images, read_manifest
from maskdistill.label_summary import Counts, count_image, join, rows
from maskdistill.pseudo_labels import Candidate, painting_steps
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.processes import in_forks
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument("--candidates", required=True, nargs="+", metavar="JSON", help="candidates of all shards")
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Write the counts of all images at every threshold."""
    start(args, "label_summary")
    config = parse_section(PseudoLabelsConfig, args.params)
    images = image_rows(ok_images(read_manifest(args.manifest), support=False))
    without = {row.image_id: row for row in images}

    def all_counts() -> Iterator[Counts]:
        for path in args.candidates:
            found = _by_image(path, without)
            yield from in_forks(partial(_count, config), found, args.threads)
        yield from (count_image([], row.width * row.height, config.compare) for row in without.values())

    total = join(progress(all_counts(), len(images), "label summary"))
    settings = config.model_dump(mode="json", include={"compare", "overlap"})
    inputs = {"manifest": args.manifest, **{f"candidates/{Path(path).name}": path for path in args.candidates}}
    provenance = make_provenance("label_summary", settings, inputs)
    write_json(args.output, {"provenance": provenance, "images": total.images, "by_tau": rows(total)})
    log.info("%d images counted", total.images)


def _count(config: PseudoLabelsConfig, found: tuple[ImageRow, list[Candidate]]) -> Counts:
    row, candidates = found
    steps = painting_steps(candidates, (row.height, row.width), config.overlap)
    return count_image(steps, row.width * row.height, config.compare)


def _by_image(path: str, without: dict[int, ImageRow]) -> list[tuple[ImageRow, list[Candidate]]]:
    """The candidates of a shard by image; those images are taken out of ``without``."""
    found: dict[int, list[Candidate]] = {}
    for candidate in read_json(path)["candidates"]:
        found.setdefault(candidate["image_id"], []).append(candidate)
    if strange := found.keys() - without.keys():
        raise MaskDistillError(
            f"{path}: image {min(strange)} is not a usable image, or stands in another shard too; run the candidates"
            " stage again with this manifest"
        )
    return [(without.pop(number), candidates) for number, candidates in found.items()]
