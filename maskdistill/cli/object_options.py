"""Options of the commands that hand out objects in other tools' formats."""

import argparse
import math

from maskdistill.cli.option_types import share, whole
from maskdistill.config import Compare
from maskdistill.formats.export.records import Context
from maskdistill.product.objects import MOST_IOU, Choice, placer


def add_object_options(parser: argparse.ArgumentParser, formats: str | None) -> None:
    """Declare them; ``formats`` is the default of ``--format``."""
    parser.add_argument(
        "--format", default=formats, metavar="A,B",
        help="formats, with options after colons: coco, coco:polygons, yolo, voc, label_studio, label_studio:brush,"
        " cvat, cvat:masks, geojson, huggingface, fiftyone, parquet, or another package's"
        + (f" (default: {formats})" if formats else " (default: none beside coco.json and coco_polygons.json)"),
    )  # fmt: skip
    parser.add_argument(
        "--simplify", type=pixels, default=0.0, metavar="PIXELS",
        help="polygons with fewer vertices: outlines may leave the mask's by so many pixels, less where the IoU would"
        " fall below 0.98 (default: 0, exact)",
    )  # fmt: skip
    parser.add_argument(
        "--min-area", type=whole(0), default=0, metavar="PIXELS", help="leave out smaller objects (default: 0)"
    )
    parser.add_argument(
        "--class-agnostic-nms", type=share, nargs="?", const=MOST_IOU, metavar="IOU",
        help=f"of two objects that overlap by more than IOU ({MOST_IOU} if none is given), whatever their categories,"
        " keep the more confident one",
    )  # fmt: skip
    parser.add_argument(
        "--pictures", choices=("link", "copy"), default="link",
        help="how pictures come into folders of formats that want them (default: link)",
    )  # fmt: skip


def pixels(text: str) -> float:
    """A number of pixels, at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of pixels, 0 or more")
    return value


def choice_of(args: argparse.Namespace, min_score: float, compare: Compare) -> Choice:
    """Which candidates are handed out, by the options and a threshold."""
    return Choice(min_score, compare, args.min_area, args.class_agnostic_nms)


def context_of(args: argparse.Namespace, names: dict[int, str]) -> Context:
    """What formats know, by the options."""
    return Context(names, placer(args.pictures == "copy"), args.simplify)
