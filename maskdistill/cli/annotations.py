"""Write the masks of the training images, labelled with their clusters, as a COCO dataset.

One shard is in memory at a time. The index beside the dataset says where in the file the annotations of each
image lie, so that training need not hold them in memory either.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maskdistill.annotations.coco import annotations, farthest_kept
from maskdistill.annotations.types import Annotation
from maskdistill.annotations.written import write_annotations
from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import whole
from maskdistill.clusters.assignments import Assignments, open_assignments, shard_number
from maskdistill.config import PseudoAnnotationsConfig, parse_section
from maskdistill.data.stream import usable_shards
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument("--masks", nargs="+", required=True, metavar="JSON", help="masks of every shard")
    parser.add_argument("--assignments", required=True, metavar="H5", help="clusters of the masks")
    parser.add_argument("--num-clusters", type=whole(1), required=True, metavar="K")
    parser.add_argument("--output", required=True, metavar="JSON")
    parser.add_argument(
        "--index", required=True, metavar="H5", help="where each image's annotations lie in --output"
    )
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Write ``annotations.json`` and its index."""
    start(args, "annotations")
    config = parse_section(PseudoAnnotationsConfig, args.params)
    inputs = {f"masks/{Path(shard).name}": Path(shard) for shard in args.masks}
    inputs |= {"assignments": Path(args.assignments), "manifest": Path(args.manifest)}
    params = {"num_clusters": args.num_clusters, "keep": config.keep}
    with open_assignments(args.assignments, args.num_clusters) as table:
        records = labelled(args, table, distance_limit(args, table, config.keep))
        images, last, _ = write_annotations(
            args.output,
            args.index,
            ((record, False) for record in records),
            args.manifest,
            args.num_clusters,
            "annotations",
            params,
            inputs,
        )
    kept = f", of the {config.keep:.0%} of masks nearest to their centroids" if config.keep < 1 else ""
    log.info("%d images, %d annotations, %d categories%s", images, last, args.num_clusters, kept)


def distance_limit(args: argparse.Namespace, table: Assignments, keep: float) -> float:
    """Largest distance from the centroid at which training masks are kept; takes 4 bytes a mask."""
    if keep == 1:
        return np.inf
    distances = [np.zeros(0, np.float32)]
    for shard, rows in usable_shards(args.manifest, ("image_id", "train")):
        found = table.of_shard(shard)
        distances.append(found.distance[np.isin(found.image_id, rows["image_id"][rows["train"]])])
    return farthest_kept(np.concatenate(distances), keep)


def labelled(args: argparse.Namespace, table: Assignments, limit: float) -> Iterator[Annotation]:
    """Annotations of all training images in order, of masks within ``limit`` of their centroid."""
    files = {shard_number(path): path for path in args.masks}
    next_id = 1
    for shard, rows in usable_shards(args.manifest, ("image_id", "height", "width", "train")):
        if shard not in files:
            raise MaskDistillError(f"--masks: shard {shard} is missing; give the masks of every shard")
        masks = read_json(files[shard])["masks"]
        found = table.of_masks(shard, [mask["image_id"] for mask in masks], files[shard])
        rows = rows[rows["train"]]
        ids, heights, widths = (rows[name].tolist() for name in ("image_id", "height", "width"))
        sizes = dict(zip(ids, zip(heights, widths, strict=True), strict=True))
        near = zip(masks, found.cluster.tolist(), (found.distance <= limit).tolist(), strict=True)
        pairs = [(mask, cluster) for mask, cluster, kept in near if kept and mask["image_id"] in sizes]
        pairs.sort(key=lambda pair: int(pair[0]["image_id"]))
        for record in annotations(pairs, sizes, args.num_clusters, next_id):
            next_id = record["id"] + 1
            yield record
