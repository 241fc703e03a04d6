"""List the images of a source, decode each once, quarantine unusable ones and write the manifest CSV."""

import argparse
import logging
from collections import Counter
from pathlib import Path

from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import share, whole
from maskdistill.data.listing import (
    count_images,
    default_num_shards,
    iter_images,
    parse_data,
    parse_support,
    with_support,
)
from maskdistill.data.manifest import build_manifest, write_manifest
from maskdistill.data.picture_names import left_out_words

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--num-shards",
        type=whole(1),
        help="pieces to split the images into (default: one per 500 images)",
    )
    parser.add_argument(
        "--scenes-dir",
        metavar="DIR",
        help="folder of the generated scenes (kind: scenes)",
    )
    parser.add_argument(
        "--max-quarantined", type=share, default=0.05, metavar="SHARE",
        help="tolerated share of unusable images; one is always tolerated unless 0 (default: 0.05)",
    )  # fmt: skip
    parser.add_argument(
        "--listing", metavar="HASH", help="fingerprint of the pictures when the run was planned"
    )
    parser.add_argument("--support", metavar="JSON", help="source of pictures that only K-means is fitted on")
    parser.add_argument(
        "--output",
        required=True,
        metavar="CSV",
        help="manifest; beside it go its index (.index.json) and the unusable images (.quarantined.csv)",
    )
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Build and write the manifest."""
    start(args, "manifest")
    data = parse_data(args.params)
    support = parse_support(args.support)
    left_out: Counter[str] = Counter()
    folder = Path(args.output).parent
    images = with_support(
        iter_images(data, args.scenes_dir, left_out, kept=folder), support, left_out, folder
    )
    count = count_images(data, kept=folder) + (
        count_images(support, None, "support", folder) if support else 0
    )
    num_shards = default_num_shards(count) if args.num_shards is None else args.num_shards
    tables = build_manifest(images, count, num_shards, folder, args.threads, args.max_quarantined)
    write_manifest(args.output, tables, left_out, args.listing)
    if left_out:
        log.warning(
            "left out because they cannot be decoded: %s; convert those you want to use",
            left_out_words(left_out),
        )
    log.info("%d images, %d shards", count, num_shards)
