"""Options of the commands that hand out objects in other tools' formats."""

import argparse
import math
from collections.abc import Iterator

from maskdistill.cli.option_types import share, whole
from maskdistill.config import ObjectsConfig
from maskdistill.formats.export.registry import own_formats, parse_formats
from maskdistill.product.objects import MOST_IOU

OF_THE_RUN = "the run's section objects"


def add_object_options(parser: argparse.ArgumentParser, usual: str = "") -> None:
    """Declare the options; ``usual`` names the defaults' origin, if not the configuration."""

    def default(words: str) -> str:
        return f" (default: {usual or words})"

    parser.add_argument(
        "--format", metavar="A,B",
        help=f"formats, with options after colons: {', '.join(_choices())}, or another package's"
        + default("none beside coco.json and coco_polygons.json"),
    )  # fmt: skip
    parser.add_argument(
        "--simplify", type=pixels, metavar="PIXELS",
        help="use fewer vertices: polygons may deviate from the mask's outline by this many pixels, less "
        "where the IoU would fall below 0.98" + default("0, exact"),
    )  # fmt: skip
    _add_choice(parser, usual)
    parser.add_argument(
        "--pictures", choices=("link", "copy"),
        help="how to put pictures into the folders of formats that need them" + default("link"),
    )  # fmt: skip


def _choices() -> Iterator[str]:
    """The formats of this package, each followed by itself with one of its switches."""
    for name, found in own_formats().items():
        yield name
        for option, field in found.options.model_fields.items():
            if field.annotation is bool:
                yield f"{name}:{option}"


def _add_choice(parser: argparse.ArgumentParser, usual: str) -> None:
    """Declare which objects are left out, whatever the format."""
    parser.add_argument(
        "--min-area",
        type=whole(0),
        metavar="PIXELS",
        help=f"leave out smaller objects (default: {usual or 0})",
    )
    parser.add_argument(
        "--class-agnostic-nms", type=share, nargs="?", const=MOST_IOU, metavar="IOU",
        help=f"of two objects that overlap by more than IOU ({MOST_IOU} if none is given), whatever their "
        "categories, keep the more confident one" + (f" (default: {usual})" if usual else ""),
    )  # fmt: skip


def add_own_options(parser: argparse.ArgumentParser, formats: bool, names: bool = True) -> None:
    """Declare which of a run's own objects are meant, with ``formats`` how they are written, and with
    ``names`` what their categories are called.
    """
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, e.g. results/mine")
    if formats:
        add_object_options(parser, OF_THE_RUN)
    else:
        _add_choice(parser, OF_THE_RUN)
    parser.add_argument(
        "--min-score",
        type=share,
        help="lowest score of an object (default: the run's; else what passes its tau)",
    )
    if names:
        parser.add_argument("--names", metavar="YAML", help="names of the clusters (default: the run's)")
    else:
        parser.set_defaults(names=None)
    parser.add_argument("--seed", type=whole(0), help="which seed's candidates, if the run has several seeds")


def pixels(text: str) -> float:
    """A number of pixels, at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of pixels, 0 or more")
    return value


def with_options(config: ObjectsConfig, args: argparse.Namespace) -> ObjectsConfig:
    """A section with what the options give.

    Raises:
        MaskDistillError: ``--format`` names what there is not.
    """
    options = vars(args)
    names = ("simplify", "min_area", "class_agnostic_nms", "pictures", "min_score")
    given = {name: options[name] for name in names if options.get(name) is not None}
    if options.get("format") is not None:
        parse_formats(args.format)
        given["formats"] = [name for name in map(str.strip, args.format.split(",")) if name]
    return config.model_copy(update=given)
