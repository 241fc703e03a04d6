"""Write the masks of the training images, labelled with their clusters, as a COCO dataset."""

import argparse
import logging
from pathlib import Path
from typing import Any

from maskdistill.annotations import build_annotations
from maskdistill.cli.common import add_common, start
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument("--masks", nargs="+", required=True, metavar="JSON", help="masks of every shard")
    parser.add_argument("--clusters", required=True, metavar="JSON")
    parser.add_argument("--num-clusters", type=int, required=True, metavar="K")
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Write ``annotations.json``."""
    start(args, "annotations")
    clusters = read_json(args.clusters)
    if clusters["num_clusters"] != args.num_clusters:
        raise MaskDistillError(
            f"{args.clusters}: has {clusters['num_clusters']} clusters, --num-clusters says {args.num_clusters};"
            " run the clusters stage with this number"
        )
    images = image_rows(ok_images(read_manifest(args.manifest), train=True))
    listed = {image.image_id for image in images}
    cluster_of = {(item["image_id"], item["mask_index"]): item["cluster"] for item in clusters["assignments"]}
    labelled: list[tuple[dict[str, Any], int]] = []
    for shard in args.masks:
        for index, mask in enumerate(read_json(shard)["masks"]):
            if mask["image_id"] not in listed:
                continue
            cluster = cluster_of.get((mask["image_id"], index))
            if cluster is None:
                raise MaskDistillError(
                    f"{args.clusters}: no cluster for mask {index} of {shard} (image {mask['image_id']});"
                    " run the embeddings and clusters stages on all shards again"
                )
            labelled.append((mask, cluster))
    labelled.sort(key=lambda pair: int(pair[0]["image_id"]))
    inputs = {f"masks/{Path(shard).name}": Path(shard) for shard in args.masks}
    inputs |= {"clusters": Path(args.clusters), "manifest": Path(args.manifest)}
    dataset = build_annotations(images, labelled, args.num_clusters)
    if not dataset["annotations"]:
        raise MaskDistillError("no training image has a mask; a detector cannot be trained: check the masks stage")
    dataset["provenance"] = make_provenance("annotations", {"num_clusters": args.num_clusters}, inputs)
    write_json(args.output, dataset)
    log.info("%d images, %d annotations, %d categories", len(images), len(dataset["annotations"]), args.num_clusters)
