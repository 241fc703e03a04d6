"""CLS features of the masked images of one shard: what K-means clusters."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from maskdistill import features, rle, store
from maskdistill.backbones import vit
from maskdistill.cli.common import add_common, start_on_device
from maskdistill.config import ClustersConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

BATCH = 16


class MaskedView(NamedTuple):
    """What the network sees of one mask, and the mask's place in its shard."""

    place: int
    image: torch.Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--masks", required=True, help="masks of the shard (.json)")
    parser.add_argument("--arch", required=True, help=f"one of {', '.join(vit.ARCHITECTURES)}")
    parser.add_argument("--weights", required=True, help="checkpoint, or 'random' for comparison")
    parser.add_argument("--output", required=True, help="embeddings of the shard (.h5)")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Embed the masks of one shard."""
    device = start_on_device(args, "embeddings")
    config = parse_section(ClustersConfig, args.params)
    model = vit.load_vit(args.arch, args.weights).to(device)
    patch = vit.ARCHITECTURES[args.arch].patch_size
    found = read_json(args.masks)["masks"]
    files = {row.image_id: row.file for row in image_rows(ok_images(read_manifest(args.manifest)))}

    def views() -> Iterator[MaskedView]:
        for index, mask in enumerate(found):
            if mask["image_id"] not in files:
                raise MaskDistillError(f"{args.masks}: {mask['key']} is not in {args.manifest}; make the masks again")
            file = files[mask["image_id"]]
            image, inside = features.prepare(load_rgb(file), None), rle.decode(mask["segmentation"])
            if image.shape[1:] != inside.shape:
                raise MaskDistillError(f"{file} changed its size since its mask was made; make the manifest again")
            view = features.cluster_input(image, inside, tuple(mask["bbox"]), config.input)
            if config.short_side is not None:
                size = features.resized_hw((view.shape[-2], view.shape[-1]), config.short_side)
                view = torch.nn.functional.interpolate(view[None], size, mode="bilinear", antialias=True)[0]
            yield MaskedView(index, view)

    def size_of(view: MaskedView) -> features.HW:
        return features.grid_of((view.image.shape[-2], view.image.shape[-1]), patch)

    embeddings = np.zeros((len(found), model.embed_dim), np.float32)
    for batch in features.bucketed(progress(views(), len(found), "embeddings"), size_of, BATCH):
        embeddings[[view.place for view in batch]] = features.embed(model, [view.image for view in batch], device)
    inputs = {"masks": Path(args.masks)} | ({} if args.weights == "random" else {"weights": Path(args.weights)})
    params = {"arch": args.arch, "input": config.input, "short_side": config.short_side}
    provenance = make_provenance("embeddings", params, inputs)
    image_ids = [mask["image_id"] for mask in found]
    store.write_embeddings(args.output, embeddings, image_ids, range(len(found)), provenance)
