"""List the images of a source, decode each once, quarantine unusable ones and write the manifest CSV."""

import argparse
import logging
from pathlib import Path

from maskdistill.cli.common import add_common, start
from maskdistill.data.manifest import build_manifest, write_manifest
from maskdistill.data.sources import default_num_shards, list_images, parse_data
from maskdistill.runtime.errors import MaskDistillError

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--num-shards",
        type=int,
        help="pieces to split the images into (default: one each 500)",
    )
    parser.add_argument(
        "--scenes-dir",
        metavar="DIR",
        help="folder of the generated scenes (kind: scenes)",
    )
    parser.add_argument(
        "--max-quarantined", type=float, default=0.05, metavar="SHARE",
        help="tolerated share of unusable images; one is always tolerated unless 0 (default: 0.05)",
    )  # fmt: skip
    parser.add_argument("--output", required=True, metavar="CSV")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Build and write the manifest."""
    start(args, "manifest")
    if not 0 <= args.max_quarantined <= 1:
        raise MaskDistillError(f"--max-quarantined {args.max_quarantined:g}: give a share between 0 and 1")
    images = list_images(parse_data(args.params), args.scenes_dir)
    num_shards = default_num_shards(len(images)) if args.num_shards is None else args.num_shards
    table = build_manifest(images, num_shards, Path(args.output).parent, args.threads, args.max_quarantined)
    write_manifest(args.output, table)
    usable = int((table["status"] == "ok").sum())
    log.info("%d images, %d usable, %d shards", len(table), usable, num_shards)
