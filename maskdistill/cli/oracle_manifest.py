"""A run's manifest for one case of the oracle, marked as such: all that is made with it carries the mark.

Images whose ground truth lacks what the case needs are not trained on.
"""

import argparse
import logging
import os
from pathlib import Path
from typing import get_args

from maskdistill.cli.common import add_common, start
from maskdistill.config import OracleCase
from maskdistill.data.manifest import read_manifest, write_manifest
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True, metavar="CSV", help="the run's own")
    parser.add_argument("--ground-truth", required=True, metavar="JSON", help="instances.json of all images")
    parser.add_argument("--case", required=True, choices=get_args(OracleCase), help="what is made perfect")
    parser.add_argument("--output", required=True, metavar="CSV", help="gets an index beside it")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Write the manifest: of masks the detector's images count, of label maps the segmenter's."""
    start(args, "oracle_manifest")
    role, needed, what = ("train", "has_masks", "masks of all objects")
    if args.case == "labels":
        role, needed, what = ("segmenter", "has_semantic", "a label map")
    table = read_manifest(args.manifest)
    known = {int(image["id"]) for image in read_json(args.ground_truth)["images"] if image[needed]}
    learnt = table[role] & (table["status"] == "ok")
    kept = table[role] & table["image_id"].isin(known)
    if not (kept & learnt).any():
        raise MaskDistillError(
            f"oracle: {args.case}: the ground truth has {what} of none of the {int(learnt.sum())} training "
            "images; take the case out of oracle.cases, or give data whose training images are labelled"
        )
    away = os.path.relpath(Path(args.manifest).parent, Path(args.output).parent)
    table[role] = kept
    table["path"] = [path if os.path.isabs(path) else f"{away}/{path}" for path in table["path"]]
    write_manifest(args.output, table, oracle=args.case)
    left_out = int((learnt & ~kept).sum())
    log.info("%s: %d training images, %d left out for lack of %s", args.case, kept.sum(), left_out, what)
