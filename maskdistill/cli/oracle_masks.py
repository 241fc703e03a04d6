"""Perfect masks of one shard from the ground truth and the found masks (evaluation only).

Images whose objects have no known masks get none.
"""

import argparse
import logging
from functools import cache
from pathlib import Path

from maskdistill.cli.common import add_common, start
from maskdistill.cli.evaluation_inputs import check_size, load_ground_truth
from maskdistill.cli.option_types import whole
from maskdistill.data.manifest import ok_images, read_manifest
from maskdistill.evaluation.ground_truth import TruthImage
from maskdistill.evaluation.oracle import CASES, perfect_masks
from maskdistill.evaluation.types import PerfectMask
from maskdistill.masks.types import MaskRecord
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True, metavar="CSV", help="of the stage oracle_manifest")
    parser.add_argument("--shard", type=whole(0), required=True, metavar="N")
    parser.add_argument("--ground-truth", required=True, metavar="JSON", help="instances.json of all images")
    parser.add_argument("--masks", required=True, metavar="JSON", help="masks of the shard that were found")
    parser.add_argument("--case", required=True, choices=CASES, help="what is made perfect")
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Write the masks of the shard."""
    start(args, "oracle_masks")
    found: dict[int, list[MaskRecord]] = {}
    for mask in read_json(args.masks)["masks"]:
        found.setdefault(mask["image_id"], []).append(mask)
    usable = ok_images(read_manifest(args.manifest, args.shard), support=False)["image_id"].tolist()
    known = _truth(args.manifest, args.ground_truth)
    masks: list[PerfectMask] = []
    for image in (known[number] for number in usable if number in known):
        here = found.get(image.id, [])
        for mask in here:
            check_size(args.masks, mask["segmentation"]["size"], image)
        masks += perfect_masks(here, image, CASES[args.case])
    inputs = {name: Path(getattr(args, name)) for name in ("manifest", "ground_truth", "masks")}
    provenance = make_provenance("oracle_masks", {"case": args.case, "shard": args.shard}, inputs)
    write_json(args.output, {"provenance": provenance, "masks": masks})
    log.info("shard %d: %d masks, %d were found", args.shard, len(masks), sum(map(len, found.values())))


@cache
def _truth(manifest: str, ground_truth: str) -> dict[int, TruthImage]:
    """Ground truth by image id, read once for all shards of a job."""
    return {image.id: image for image in load_ground_truth(manifest, ground_truth).images}
