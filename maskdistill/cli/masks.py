"""One object mask an image of a shard, from the affinity graph between its patch keys."""

import argparse
import logging

from maskdistill import masks, rle, store
from maskdistill.cli.common import add_common, start
from maskdistill.config import MasksConfig, parse_section
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--features", required=True, help="feature shard (.h5)")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--output", required=True, help="masks of the shard (.json)")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Distil the masks of one shard."""
    start(args, "masks")
    config = parse_section(MasksConfig, args.params)
    sizes = {row.image_id: (row.height, row.width) for row in image_rows(ok_images(read_manifest(args.manifest)))}
    found = []
    negative = 0
    with store.open_shard(args.features) as file:
        patch = int(file.attrs["patch_size"])
        for image_id, key, image in progress(store.read_features(file), len(file["image_id"]), "masks"):
            if image_id not in sizes:
                raise MaskDistillError(f"{args.features}: {key} is not in {args.manifest}; make the features again")
            patches = masks.distil(image.keys, image.cls_query, image.grid, config)
            negative += patches.cls_affinity.sum() <= 0
            full = masks.upsample(patches.mask, patch, image.resized_hw, sizes[image_id], config.resize_mask)
            if not full.any():
                continue
            encoded = rle.encode(full)
            found.append(
                {
                    "image_id": image_id,
                    "key": key,
                    "segmentation": encoded,
                    "bbox": rle.bbox(encoded),
                    "area": rle.area(encoded),
                    "score": 1.0,
                    "source_patch": list(patches.source),
                    "coverage": float(patches.mask.mean()),
                }
            )
    if config.cls_mass is not None and negative:
        log.warning("cls_mass: the CLS affinities of %d images do not sum to a positive number", negative)
    provenance = make_provenance("masks", config.model_dump(mode="json"), {"features": args.features})
    write_json(args.output, {"provenance": provenance, "masks": found})
