"""Write the masks of the training images, labelled with their clusters, as a COCO dataset.

One shard is in memory at a time. The index beside the dataset says where in the file the annotations of each image
lie, so that training need not hold them either.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskdistill.annotation_index import IndexBuilder
from maskdistill.annotations import annotations, categories
from maskdistill.assignments import Assignments, open_assignments, shard_number
from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import whole
from maskdistill.data.stream import usable_rows, usable_shards
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json
from maskdistill.runtime.json_stream import write_json_object
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument("--masks", nargs="+", required=True, metavar="JSON", help="masks of every shard")
    parser.add_argument("--assignments", required=True, metavar="H5", help="clusters of the masks")
    parser.add_argument("--num-clusters", type=whole(1), required=True, metavar="K")
    parser.add_argument("--output", required=True, metavar="JSON")
    parser.add_argument("--index", required=True, metavar="H5", help="where each image's annotations lie in --output")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Write ``annotations.json`` and its index."""
    start(args, "annotations")
    inputs = {f"masks/{Path(shard).name}": Path(shard) for shard in args.masks}
    inputs |= {"assignments": Path(args.assignments), "manifest": Path(args.manifest)}
    images, last = 0, 0
    index = IndexBuilder()
    with open_assignments(args.assignments, args.num_clusters) as table, write_json_object(args.output) as content:
        with content.array("annotations") as append:
            for record in labelled(args, table):
                index.add(record["image_id"], *append(record))
                last = record["id"]
        if last == 0:
            raise MaskDistillError("no training image has a mask; a detector cannot be trained: check the masks stage")
        content.value("categories", categories(args.num_clusters))
        with content.array("images") as append:
            for rows in usable_rows(args.manifest, ("image_id", "key", "width", "height", "train")):
                for row in rows[rows["train"]].itertuples(index=False):
                    append({"id": row.image_id, "file_name": row.key, "width": row.width, "height": row.height})
                    images += 1
        content.value("provenance", make_provenance("annotations", {"num_clusters": args.num_clusters}, inputs))
    index.write(args.index, args.num_clusters)
    log.info("%d images, %d annotations, %d categories", images, last, args.num_clusters)


def labelled(args: argparse.Namespace, table: Assignments) -> Iterator[dict[str, Any]]:
    """Annotations of all training images, ordered by image."""
    files = {shard_number(path): path for path in args.masks}
    next_id = 1
    for shard, rows in usable_shards(args.manifest, ("image_id", "height", "width", "train")):
        if shard not in files:
            raise MaskDistillError(f"--masks: shard {shard} is missing; give the masks of every shard")
        masks = read_json(files[shard])["masks"]
        clusters = table.clusters(shard, [mask["image_id"] for mask in masks], files[shard]).tolist()
        rows = rows[rows["train"]]
        ids, heights, widths = (rows[name].tolist() for name in ("image_id", "height", "width"))
        sizes = dict(zip(ids, zip(heights, widths, strict=True), strict=True))
        pairs = [pair for pair in zip(masks, clusters, strict=True) if pair[0]["image_id"] in sizes]
        pairs.sort(key=lambda pair: int(pair[0]["image_id"]))
        for record in annotations(pairs, sizes, args.num_clusters, next_id):
            next_id = record["id"] + 1
            yield record
