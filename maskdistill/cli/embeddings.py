"""CLS features of the masked images of one shard: what K-means clusters."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from maskdistill.backbones import vit
from maskdistill.backbones.registry import BACKBONES, Backbone, find_backbone
from maskdistill.cli.common import add_common, start_on_device
from maskdistill.cli.option_types import whole
from maskdistill.config import ClustersConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.features import extraction, store
from maskdistill.formats import rle
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json
from maskdistill.runtime.loading import decoding_workers, load_in_order
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance

BATCH = 16


class MaskedView(NamedTuple):
    """What the network sees of one mask, normalised, and the mask's place in its shard."""

    place: int
    image: torch.Tensor


class MaskedViews(Dataset[MaskedView]):
    """What the network sees of the masks of a shard."""

    def __init__(
        self, found: list[dict[str, Any]], files: dict[int, str], backbone: Backbone, config: ClustersConfig
    ) -> None:
        self.found, self.files, self.backbone, self.config = found, files, backbone, config

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int) -> MaskedView:
        mask, config = self.found[index], self.config
        file = self.files[mask["image_id"]]
        pixels, inside = extraction.resize(load_rgb(file), None), rle.decode(mask["segmentation"])
        if pixels.shape[1:] != inside.shape:
            raise MaskDistillError(
                f"{file} has changed size since its mask was made; make the manifest again"
            )
        box = tuple(mask["bbox"])
        return MaskedView(
            index, extraction.masked_view(pixels, inside, box, self.backbone, config.input, config.short_side)
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--shard", type=whole(0), required=True, help="number of the shard")
    parser.add_argument("--masks", required=True, help="masks of the shard (.json)")
    parser.add_argument("--arch", required=True, help=f"one of {', '.join(BACKBONES)}")
    parser.add_argument("--weights", required=True, help="checkpoint, or 'random' for comparison")
    parser.add_argument("--output", required=True, help="embeddings of the shard (.h5)")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Embed the masks of one shard."""
    device = start_on_device(args, "embeddings")
    config = parse_section(ClustersConfig, args.params)
    backbone = find_backbone(args.arch)
    model = vit.load_vit(args.arch, args.weights, device, config.precision)
    found = read_json(args.masks)["masks"]
    rows = image_rows(ok_images(read_manifest(args.manifest, args.shard)))
    files = {row.image_id: row.file for row in rows}
    for mask in found:
        if mask["image_id"] not in files:
            raise MaskDistillError(
                f"{args.masks}: {mask['key']} is not in shard {args.shard} of {args.manifest}; make the "
                "masks again"
            )

    workers = decoding_workers(config.workers, device, args.threads)
    views = load_in_order(MaskedViews(found, files, backbone, config), workers, device, BATCH)

    def size_of(view: MaskedView) -> store.HW:
        return extraction.grid_of((view.image.shape[-2], view.image.shape[-1]), backbone.patch_size)

    embeddings = np.zeros((len(found), backbone.embed_dim), np.float32)
    shown = progress(views, len(found), f"masks of shard {args.shard}", unit="mask")
    for batch in extraction.bucketed(shown, size_of, BATCH):
        images = [view.image for view in batch]
        vectors = extraction.embed(model, backbone.patch_size, images, device, config.precision)
        embeddings[[view.place for view in batch]] = vectors
    inputs = {"masks": Path(args.masks)} | (
        {} if args.weights == "random" else {"weights": Path(args.weights)}
    )
    params = config.model_dump(mode="json", include={"input", "short_side", "precision"}) | {
        "arch": args.arch
    }
    provenance = make_provenance("embeddings", params, inputs)
    image_ids = [mask["image_id"] for mask in found]
    store.write_embeddings(args.output, embeddings, image_ids, range(len(found)), provenance)
