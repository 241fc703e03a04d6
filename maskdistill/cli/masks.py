"""Object masks of the images of a shard, by the paper's rule or by another one (``rule`` in ``--params``).

The masks of an image are disjoint and stand in the order of discovery, each with score 1. With ``refine`` the
photographs are opened too, one per thread at a time.
"""

import argparse
import logging
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import whole
from maskdistill.config import MasksConfig, parse_section
from maskdistill.data.manifest import ImageRow, image_rows, load_listed, ok_images, read_manifest
from maskdistill.features import store
from maskdistill.masks.records import MaskRecorder, PatchMasks, shaping
from maskdistill.masks.types import MaskRecord
from maskdistill.runtime.background import in_order
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import initial_weights, make_provenance

log = logging.getLogger("maskdistill")


class _Searched(NamedTuple):
    """An image whose masks are known on the grid of patches; its keys need not stay in memory."""

    image_id: int
    key: str
    image_hw: store.HW
    patches: PatchMasks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--features", required=True, help="feature shard (.h5)")
    parser.add_argument("--output", required=True, help="masks of the shard (.json)")
    parser.add_argument("--manifest", help="where the photographs are, for refine")
    parser.add_argument("--shard", type=whole(0), help="number of the shard, for refine")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Distil the masks of one shard."""
    start(args, "masks")
    config = parse_section(MasksConfig, args.params)
    rows = _listed(args) if config.refine != "none" else {}
    found: list[MaskRecord] = []
    with store.open_shard(args.features) as file:
        weights = initial_weights(file.attrs.get("provenance", "{}"))
        recorder = MaskRecorder(config, int(file.attrs["patch_size"]))

        def searched() -> Iterator[_Searched]:
            for stored in progress(store.read_features(file), len(file["image_id"]), "masks"):
                if rows and stored.image_id not in rows:
                    raise MaskDistillError(
                        f"{args.features}: {stored.key} is not in shard {args.shard} of {args.manifest}; "
                        "make the features again"
                    )
                yield _Searched(
                    stored.image_id, stored.key, stored.image_hw, recorder.search(stored.features)
                )

        def recorded(item: _Searched) -> list[MaskRecord]:
            photo = np.asarray(load_listed(rows[item.image_id])) if rows else None
            return recorder.records(*item, photo)

        for records in in_order(recorded, searched(), args.threads):
            found += records
    recorder.warn(log)
    provenance = make_provenance("masks", shaping(config), {"features": args.features})
    provenance["inputs"] |= weights
    write_json(args.output, {"provenance": provenance, "masks": found})


def _listed(args: argparse.Namespace) -> Mapping[int, ImageRow]:
    """The shard's pictures by their ids."""
    if args.manifest is None or args.shard is None:
        raise MaskDistillError("masks: refine needs the photographs; give --manifest and --shard")
    rows = image_rows(ok_images(read_manifest(args.manifest, args.shard)))
    return {row.image_id: row for row in rows}
