"""What the stages features and distil share: pictures of one shard through the network, batch after batch."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from maskdistill.backbones import vit
from maskdistill.backbones.registry import BACKBONES, find_backbone
from maskdistill.cli.common import add_common
from maskdistill.cli.option_types import whole
from maskdistill.config import FeaturesConfig
from maskdistill.data.manifest import ImageRow, image_rows, load_listed, ok_images, read_manifest
from maskdistill.features import extraction, store
from maskdistill.runtime.background import in_background
from maskdistill.runtime.loading import decoding_workers, load_in_order
from maskdistill.runtime.progress import progress


class Decoded(NamedTuple):
    """A decoded and resized picture, uint8 (3, h, w), and its place in the shard."""

    place: int
    image: torch.Tensor


class Pictures(Dataset[Decoded]):
    """Pictures of a shard, resized for the network."""

    def __init__(self, rows: list[ImageRow], short_side: int | None) -> None:
        self.rows, self.short_side = rows, short_side

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Decoded:
        return Decoded(index, extraction.resize(load_listed(self.rows[index]), self.short_side))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say which pictures go through which network."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--shard", type=whole(0), required=True, help="number of the shard")
    parser.add_argument("--arch", required=True, help=f"one of {', '.join(BACKBONES)}")
    parser.add_argument("--weights", required=True, help="checkpoint, or 'random' for comparison")
    add_common(parser, device=True)


class Extraction:
    """One shard of pictures and the network that sees them.

    Attributes:
        rows: the usable pictures.
        grids: patches (rows, columns) of each.
        backbone: entry in the registry.
        workers: decoding processes.
        params, inputs: for the provenance.
    """

    def __init__(self, args: argparse.Namespace, config: FeaturesConfig, device: torch.device) -> None:
        self.config, self.device, self.shard = config, device, args.shard
        self.backbone = find_backbone(args.arch)
        self.model = vit.load_vit(args.arch, args.weights, device, config.precision)
        self.workers = decoding_workers(config.workers, device, args.threads)
        self.rows = image_rows(ok_images(read_manifest(args.manifest, args.shard)))
        sizes = [extraction.resized_hw((row.height, row.width), config.short_side) for row in self.rows]
        self.grids = [extraction.grid_of(size, self.backbone.patch_size) for size in sizes]
        self.params: dict[str, Any] = {"arch": args.arch, "random_weights": args.weights == "random"}
        self.params |= {"short_side": config.short_side, "precision": config.precision}
        self.inputs = {} if args.weights == "random" else {"weights": Path(args.weights)}
        self._decoded: Iterator[Decoded] | None = None

    def start(self) -> None:
        """Start the decoding processes, before a fork could inherit an open HDF5 file."""
        pictures = Pictures(self.rows, self.config.short_side)
        self._decoded = load_in_order(pictures, self.workers, self.device, 2 * self.config.batch_size)

    def each(self, put: Callable[[int, store.ImageFeatures], None]) -> None:
        """Call ``put(place, features)`` for every picture, batches of equal size, in a background thread."""
        if self._decoded is None:
            raise RuntimeError("start() comes first")

        def finish(batch: tuple[list[int], extraction.Pending]) -> None:
            for place, found in zip(batch[0], batch[1].get(), strict=True):
                put(place, found)

        shown = progress(self._decoded, len(self.rows), f"images of shard {self.shard}")
        size_of = partial(_grid, self.backbone.patch_size)
        with in_background(finish) as hand_over:
            for batch in extraction.bucketed(shown, size_of, self.config.batch_size):
                images = [item.image for item in batch]
                found = extraction.extract(
                    self.model, self.backbone, images, self.device, self.config.precision
                )
                hand_over(([item.place for item in batch], found))


def _grid(patch_size: int, item: Decoded) -> store.HW:
    return extraction.grid_of((item.image.shape[-2], item.image.shape[-1]), patch_size)
