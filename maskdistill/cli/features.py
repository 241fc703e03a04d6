"""CLS query and patch keys of the last attention block for one shard of images, as HDF5."""

import argparse
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from maskdistill import features, store
from maskdistill.backbones import vit
from maskdistill.cli.common import add_common, start_on_device
from maskdistill.config import FeaturesConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.runtime.devices import single_thread
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance


class Prepared(NamedTuple):
    """A decoded, resized and normalised picture and its place in the shard."""

    place: int
    image: torch.Tensor


class Pictures(Dataset[Prepared]):
    """Pictures of a shard, prepared for the network."""

    def __init__(self, files: list[str], sizes: list[features.HW], short_side: int | None) -> None:
        self.files, self.sizes, self.short_side = files, sizes, short_side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Prepared:
        image = load_rgb(self.files[index])
        if (image.height, image.width) != self.sizes[index]:
            raise MaskDistillError(f"{self.files[index]} changed its size since the manifest was made; make it again")
        return Prepared(index, features.prepare(image, self.short_side))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--shard", type=int, required=True, help="number of the shard")
    parser.add_argument("--arch", required=True, help=f"one of {', '.join(vit.ARCHITECTURES)}")
    parser.add_argument("--weights", required=True, help="checkpoint, or 'random' for comparison")
    parser.add_argument("--output", required=True, help="shard (.h5)")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Extract the features of one shard."""
    device = start_on_device(args, "features")
    config = parse_section(FeaturesConfig, args.params)
    model = vit.load_vit(args.arch, args.weights).to(device)
    patch = vit.ARCHITECTURES[args.arch].patch_size
    table = read_manifest(args.manifest)
    if not (table["shard"] == args.shard).any():
        raise MaskDistillError(f"{args.manifest}: has no shard {args.shard}; take one of 0..{table['shard'].max()}")
    rows = image_rows(ok_images(table, shard=args.shard))
    sizes = [(row.height, row.width) for row in rows]
    grids = [features.grid_of(features.resized_hw(size, config.short_side), patch) for size in sizes]

    inputs = {} if args.weights == "random" else {"weights": Path(args.weights)}
    params = {"arch": args.arch, "random_weights": args.weights == "random"}
    params |= {"short_side": config.short_side, "dtype": config.dtype}
    pictures: DataLoader[Prepared] = DataLoader(
        Pictures([row.file for row in rows], sizes, config.short_side),
        batch_size=None,
        num_workers=min(config.workers, len(rows)),
        worker_init_fn=single_thread,
        pin_memory=device.type == "cuda",
    )
    provenance = make_provenance("features", params, inputs)
    keys = [row.key for row in rows]
    decoded = iter(pictures)  # starts the decoding processes before the HDF5 file is open
    with store.write_features(args.output, [row.image_id for row in rows], keys, grids, patch, provenance) as writer:
        writer.create(model.embed_dim, vit.num_heads(model), config.dtype)
        shown = progress(decoded, len(rows), f"features {args.shard}")
        size_of = partial(_padded_size, patch)
        for batch in features.bucketed(shown, size_of, config.batch_size):
            found = features.extract(model, [item.image for item in batch], device)
            for item, result in zip(batch, found, strict=True):
                writer.put(item.place, result)


def _padded_size(patch: int, item: Prepared) -> features.HW:
    return features.grid_of((item.image.shape[-2], item.image.shape[-1]), patch)
