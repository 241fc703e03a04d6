"""True categories of an oracle's masks as a table in place of clusters (evaluation only)."""

import argparse
import logging
from pathlib import Path

import numpy as np

from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import whole
from maskdistill.clusters.assignments import shard_number, write_assignments
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True, metavar="CSV", help="of the stage oracle_manifest")
    parser.add_argument(
        "--masks", nargs="+", required=True, metavar="JSON", help="perfect masks of every shard"
    )
    parser.add_argument("--num-clusters", type=whole(1), required=True, metavar="C", help="number of classes")
    parser.add_argument("--output", required=True, metavar="H5")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Write the table: category c, 1..C, is cluster c - 1, at distance 0."""
    start(args, "oracle_categories")
    columns = []
    for path in sorted(args.masks, key=shard_number):
        masks = read_json(path)["masks"]
        if any(not 1 <= mask.get("category_id", 0) <= args.num_clusters for mask in masks):
            raise MaskDistillError(
                f"{path}: a mask has no category of 1..{args.num_clusters}; make it with oracle_masks --case "
                "categories or annotations, from the ground truth of these classes"
            )
        clusters = np.array([mask["category_id"] for mask in masks], dtype=np.int64) - 1
        columns.append((shard_number(path), [mask["image_id"] for mask in masks], clusters))
    total = sum(len(ids) for _, ids, _ in columns)
    inputs = {f"masks/{Path(path).name}": Path(path) for path in args.masks} | {
        "manifest": Path(args.manifest)
    }
    provenance = make_provenance("oracle_categories", {"num_clusters": args.num_clusters}, inputs)
    with write_assignments(args.output, total, args.num_clusters, provenance) as writer:
        for shard, ids, clusters in columns:
            writer.append(shard, ids, np.arange(len(ids)), clusters, np.zeros(len(ids)))
    log.info("%d masks of %d categories", total, args.num_clusters)
