"""Masks of one shard directly from the pictures: features and masks in one step, without storing keys.

For runs without a sweep; gives the same masks as the stages features and masks.
"""

import argparse
import logging

import numpy as np

from maskdistill.cli import extraction
from maskdistill.cli.common import start_on_device
from maskdistill.config import DistilConfig, parse_section
from maskdistill.data.manifest import load_listed
from maskdistill.features.store import ImageFeatures
from maskdistill.masks.records import MaskRecorder, shaping
from maskdistill.masks.types import MaskRecord
from maskdistill.runtime.files import write_json
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--output", required=True, help="masks of the shard (.json)")
    extraction.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Distil the masks of one shard."""
    device = start_on_device(args, "distil")
    config = parse_section(DistilConfig, args.params)
    work = extraction.Extraction(args, config.features, device)
    recorder = MaskRecorder(config.masks, work.backbone.patch_size)
    found: list[list[MaskRecord]] = [[] for _ in work.rows]

    def put(place: int, image: ImageFeatures) -> None:
        row = work.rows[place]
        photo = np.asarray(load_listed(row)) if config.masks.refine != "none" else None
        found[place] = recorder.records(
            row.image_id, row.key, (row.height, row.width), recorder.search(image), photo
        )

    work.start()
    work.each(put)
    recorder.warn(log)
    provenance = make_provenance("masks", shaping(config.masks) | work.params, work.inputs)
    write_json(
        args.output, {"provenance": provenance, "masks": [record for records in found for record in records]}
    )
