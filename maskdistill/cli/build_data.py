"""Build the data of a full run from official datasets: links to their pictures, and the paper's lists.

Lists are compared with the published counts and checksums; --any-lists is for excerpts. The datasets are not
changed. With --truth the ground truth is added to what was built before; nothing but evaluation reads it.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskdistill.cli.common import add_common, start
from maskdistill.data.build_coco import build_coco20k, build_coco20k_truth
from maskdistill.data.build_voc import build_voc, build_voc_truth
from maskdistill.data.official_datasets import BUILDS
from maskdistill.data.splits import check_split, list_md5
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_directory, read_json, write_json
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")
BUILDERS = {"voc": build_voc, "coco20k": build_coco20k}
TRUTHS = {"voc": build_voc_truth, "coco20k": build_coco20k_truth}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--build", required=True, choices=BUILDS, help="what to build")
    parser.add_argument(
        "--datasets",
        nargs="+",
        required=True,
        metavar="JSON",
        help="records of `maskdistill dataset`, in any order",
    )
    parser.add_argument(
        "--any-lists", action="store_true", help="do not compare lists with the published ones"
    )
    parser.add_argument(
        "--truth", action="store_true", help="add the ground truth; its record is truth/build.json"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder to build, with its record build.json"
    )
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Build the folder."""
    start(args, "build_data")
    records = {}
    for path in map(Path, args.datasets):
        record = read_json(path)
        records[record["name"]] = (path, path.parent / record["root"])
    if absent := [name for name in BUILDS[args.build] if name not in records]:
        raise MaskDistillError(
            f"--datasets: {args.build} is built from {', '.join(absent)} too; give its record"
        )
    roots = {name: records[name][1] for name in BUILDS[args.build]}
    inputs = {name: records[name][0] for name in roots}
    provenance = make_provenance("build_data", {"build": args.build, "any_lists": args.any_lists}, inputs)
    if args.truth:
        _add_truth(args.build, roots, Path(args.output), provenance)
        return
    with atomic_directory(args.output) as folder:
        lists = BUILDERS[args.build](roots, folder, _only_sum if args.any_lists else check_split)
        write_json(folder / "build.json", {"lists": lists, "provenance": provenance})


def _add_truth(build: str, roots: Mapping[str, Path], output: Path, provenance: Mapping[str, Any]) -> None:
    """Make ``output/truth`` and links to what is in it, where VOC's layout has it."""
    if not (output / "build.json").is_file():
        raise MaskDistillError(
            f"{output}: nothing is built there; run the same command without --truth first"
        )
    with atomic_directory(output / "truth") as folder:
        TRUTHS[build](roots, output, folder)
        write_json(folder / "build.json", {"provenance": provenance})
    for path in (output / "truth").iterdir():
        if path.name != "build.json":
            link = output / path.name
            link.unlink(missing_ok=True)
            link.symlink_to(Path("truth", path.name))


def _only_sum(_: str, images: Sequence[str]) -> str:
    return list_md5(images)
