"""Object masks of the images of a shard, from the affinity graph between patch keys: one an image, or several.

The masks of an image are disjoint and stand in the order of discovery, each with score 1.
"""

import argparse
import logging
from typing import Any

from maskdistill import store
from maskdistill.cli.common import add_common, start
from maskdistill.config import MasksConfig, parse_section
from maskdistill.mask_baselines import MaskBaseline
from maskdistill.mask_records import MaskRecorder
from maskdistill.runtime.files import write_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import initial_weights, make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--features", required=True, help="feature shard (.h5)")
    parser.add_argument("--output", required=True, help="masks of the shard (.json)")
    parser.add_argument(
        "--baseline", metavar="NAME", help="another rule: lost-400, attention-0.75 or attention-0.75-largest"
    )
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Distil the masks of one shard."""
    start(args, "masks")
    config = parse_section(MasksConfig, args.params)
    baseline = MaskBaseline.parse(args.baseline) if args.baseline else None
    found: list[dict[str, Any]] = []
    with store.open_shard(args.features) as file:
        weights = initial_weights(file.attrs.get("provenance", "{}"))
        recorder = MaskRecorder(config, int(file.attrs["patch_size"]), baseline)
        for stored in progress(store.read_features(file), len(file["image_id"]), "masks"):
            found += recorder.records(stored.image_id, stored.key, stored.features, stored.image_hw)
    recorder.warn(log)
    params = config.model_dump(mode="json")
    if args.baseline:
        params = {"baseline": args.baseline, "resize_mask": config.resize_mask}
    provenance = make_provenance("masks", params, {"features": args.features})
    provenance["inputs"] |= weights
    write_json(args.output, {"provenance": provenance, "masks": found})
