"""Download the official checkpoint of a backbone: resumable, checksummed, its licence printed.

A file that is already at --output is checked, not fetched again; an interrupted transfer is continued.
"""

import argparse
import logging

from maskdistill.backbones.registry import BACKBONES, RESNET_CHECKPOINTS, find_checkpoint, how_to_get
from maskdistill.cli.common import add_common, start
from maskdistill.runtime.contents import is_as_first_seen
from maskdistill.runtime.download import check_sum, download
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import sha256_file

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--list", action="store_true", help="list names, licences and addresses, and stop")
    names = [*(name for name, entry in BACKBONES.items() if entry.official), *RESNET_CHECKPOINTS]
    parser.add_argument("--arch", help=f"one of {', '.join(names)}")
    parser.add_argument("--output", metavar="FILE", help="where to save the checkpoint")
    parser.add_argument("--sha256", help="expected checksum (default: the known one, if any)")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Print the list, or make sure that the file is there and right."""
    if args.list:
        print("\n".join(listing()))
        return
    if not args.arch or not args.output:
        raise MaskDistillError("give --arch and --output, or --list")
    start(args, "weights")
    official = find_checkpoint(args.arch)
    expected = args.sha256 or official.sha256
    log.info("%s: licence of the weights: %s, see %s", args.arch, official.licence, official.page)
    by_hand = how_to_get(args.arch, args.output)
    if official.url is not None:
        found = download(official.url, args.output, expected, by_hand)
    else:
        try:
            found = check_sum(args.output, expected or "")
        except FileNotFoundError:
            raise MaskDistillError(f"{args.output}: cannot be downloaded for you; {by_hand}") from None
    is_as_first_seen(args.output, sha256_file(args.output))
    log.info("%s: %s %s", args.output, "MD5" if (expected or "").startswith("md5:") else "SHA-256", found)
    if not expected:
        log.warning(
            "no checksum is known for %s; write the one above as sha256 beside weights to fix it", args.arch
        )


def listing() -> list[str]:
    """A line for each backbone, and each checkpoint of a ResNet-50: name, patch size, licence, address."""
    lines = []
    for name, entry in BACKBONES.items():
        licence, where = "-", "no download: weights: pretrain, or a file"
        if entry.official is not None:
            licence, where = entry.official.licence, entry.official.url or f"by hand: {entry.official.page}"
        lines.append(f"{name:20s} patch {entry.patch_size:2d}  {licence:32s} {where}")
    for name, official in RESNET_CHECKPOINTS.items():
        lines.append(f"{name:20s} ResNet-50 {official.licence:31s} {official.url}")
    return lines
