"""Compare objects that were corrected by hand in another tool with those of the run.

CORRECTED is what a tool exported after somebody corrected what `maskdistill objects` wrote: COCO JSON (also
CVAT's export), Label Studio's JSON export, or a YOLO segmentation folder. Give the options that you gave to
`maskdistill objects`. Pictures are matched by their names. The run does not change: corrected objects may
score it (docs/how-to/use-the-objects.md), but never train anything.
"""

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path

from maskdistill.cli.common import add_common, start
from maskdistill.cli.object_options import add_own_options
from maskdistill.cli.objects import own_of
from maskdistill.cli.option_types import whole
from maskdistill.data.corrected.base import Corrections, named
from maskdistill.data.corrected.registry import read_corrected
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.data.truth_types import Losses
from maskdistill.formats.export.coco import Form, coco_file
from maskdistill.product.agreement import Agreement, AgreementRecord, table
from maskdistill.product.corrected import as_picture, find_pictures, sides
from maskdistill.product.finished_run import finished_run
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_path, sha256_file, sha256_text, write_json
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")
NAMED = 5
"""Things of a kind that the log names; the file has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_own_options(parser, formats=False)
    parser.add_argument("corrected", metavar="CORRECTED", help="file or folder of corrected objects")
    parser.add_argument(
        "--worst",
        type=whole(0),
        default=20,
        metavar="N",
        help="pictures to list, worst first (default: 20)",
    )
    parser.add_argument(
        "--coco",
        metavar="FILE",
        help="also write the corrected objects as COCO JSON, which data.annotations takes",
    )
    parser.add_argument("--out", metavar="FILE", help="JSON to write (default: RUN/compare.json)")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Compare, print the table and write the JSON."""
    start(args, "compare")
    folder = Path(args.run)
    own = own_of(args, *finished_run(folder))
    losses = Losses(1.0, logged=0)
    reader, source, corrections = read_corrected(Path(args.corrected), losses)
    rows = image_rows(ok_images(read_manifest(own.manifest), support=False))
    found, unknown = find_pictures(corrections, rows)
    if not found:
        raise MaskDistillError(
            f"{source}: none of its {len(corrections.pictures)} pictures is one of {folder}; give the file "
            "of this run"
        )
    names = own.names
    agreement = Agreement([named(name) for name in names.values()], args.worst, reader.as_written)
    numbers = {name: number for number, name in enumerate(corrections.names, start=1)}
    with ExitStack() as stack:
        form = Form({number: name for name, number in numbers.items()})
        path = stack.enter_context(atomic_path(args.coco)) if args.coco else None
        append = stack.enter_context(coco_file(path, form)) if path else None
        for picture, before, corrected in sides(own.pictures(), corrections, found):
            agreement.add(picture.key, before, corrected)
            if append:
                append(as_picture(picture, corrected, numbers))
    record = agreement.record()
    strange = {
        item["name"]: item["corrected"]
        for item in record["categories"]
        if item["name"] not in {named(name) for name in names.values()}
    }
    content = {
        "format": reader.name,
        "run_pictures": len(rows),
        "unknown_pictures": [entry.file_name for entry in unknown],
        "unknown_categories": strange,
        "left_out": [item._asdict() for item in losses.dropped],
        **record,
    }
    choice = own.choice
    params = {
        "min_score": choice.min_score, "compare": choice.compare, "min_area": choice.min_area,
        "class_agnostic_nms": choice.most_iou, "corrected": _digest(corrections),
    }  # fmt: skip
    out = Path(args.out) if args.out else folder / "compare.json"
    write_json(out, content | {"provenance": make_provenance("compare", params, own.inputs)})
    _say(record, len(rows), [entry.file_name for entry in unknown], strange, losses)
    log.info("all of it: %s%s", out, f"; corrected objects: {args.coco}" if args.coco else "")


def _digest(corrections: Corrections) -> str:
    """SHA-256 over the content of the files that were read."""
    return sha256_text("".join(map(sha256_file, corrections.files)))


def _say(
    record: AgreementRecord, total: int, unknown: list[str], strange: dict[str, int], losses: Losses
) -> None:
    """Log the table, and what was not compared."""
    log.info(
        "%d of the run's %d pictures compared, %d unchanged\n%s",
        record["pictures"], total, record["untouched"], "\n".join(table(record)),
    )  # fmt: skip
    for name, new in record["renamed"].items():
        log.info("renamed: %s is now %s", name, new)
    for what, entries in (
        ("pictures that the run does not have", unknown),
        (
            "categories that the run does not have",
            [
                f"{name} ({count})"
                for name, count in strange.items()
                if name not in record["renamed"].values()
            ],
        ),
        ("left out", [f"{item.entry}: {item.reason}" for item in losses.dropped]),
    ):
        if entries:
            more = ", ..." if len(entries) > NAMED else ""
            log.warning("%s: %d: %s%s", what, len(entries), ", ".join(entries[:NAMED]), more)
