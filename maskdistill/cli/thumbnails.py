"""Thumbnails of a run's objects on sheets, and what is known of each, for the page of objects.

The objects are the detector's candidates that pass tau, as `maskdistill objects` writes them. If there are
too many, only the most confident ones and a sample of the others are shown. Each picture is read once, in
order; memory does not grow with their number.
"""

import argparse
import logging
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple, cast
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import whole
from maskdistill.clusters.assignments import shard_number
from maskdistill.config import ThumbnailsConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import ImageRow, image_rows, ok_images, read_index, read_manifest
from maskdistill.data.picture_refs import inside
from maskdistill.formats import rle
from maskdistill.formats.export.records import ObjectRecord
from maskdistill.product.objects import Choice, pictures, relative_name, usual_choice
from maskdistill.report import thumbnails
from maskdistill.report.montage import Color, Rgb, category_colors, object_tile
from maskdistill.report.thumbnails import ObjectColumns, PictureColumns, ThumbnailsRecord
from maskdistill.runtime.background import in_order
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_directory, read_json, write_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance
from maskdistill.runtime.types import Provenance

log = logging.getLogger("maskdistill")
QUALITY = 82
"""Of the sheets' JPEG; colours are not subsampled, so thin outlines stay, and blocks of 8 pixels never cross
a tile.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. --params are the sections report, objects and pseudo_labels."""
    parser.add_argument("--manifest", required=True, metavar="CSV")
    parser.add_argument(
        "--candidates", required=True, nargs="+", metavar="JSON", help="candidates of all shards"
    )
    parser.add_argument("--num-clusters", type=whole(1), required=True, metavar="K")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="gets sheet-0001.jpg, ... and objects.json"
    )
    add_common(parser)


class Found(NamedTuple):
    """A picture of the run, and the objects of it that are handed out."""

    row: ImageRow
    objects: tuple[ObjectRecord, ...]


class Wanted(NamedTuple):
    """A picture, and its objects that are shown, each with the place of its thumbnail."""

    row: ImageRow
    objects: Sequence[tuple[int, ObjectRecord]]


class Drawn(NamedTuple):
    """An object with its thumbnail (side, side, 3) and its outline as a path."""

    place: int
    item: ObjectRecord
    tile: Rgb
    outline: str


class Survey(NamedTuple):
    """One pass over all candidates: each object's category and score, and empty pictures."""

    categories: NDArray[np.int64]
    scores: NDArray[np.float64]
    looked_at: int
    empty: int


def run(args: argparse.Namespace) -> None:
    """Choose, draw, write."""
    start(args, "thumbnails")
    config = parse_section(ThumbnailsConfig, args.params)
    most, side = config.report.objects, config.report.object_side
    choice = usual_choice(config.objects, config.pseudo_labels)
    files = {shard_number(path): path for path in args.candidates}
    names = dict.fromkeys(range(1, args.num_clusters + 1), "")
    every = partial(_found, args.manifest, files, names, choice)
    seen = _survey(every())
    shown = thumbnails.choose(seen.scores, most)
    places = thumbnails.places(seen.categories[shown], seen.scores[shown])
    settings = {"objects": most, "object_side": side, **asdict(choice)}
    inputs = {
        "manifest": args.manifest,
        **{f"candidates/{Path(path).name}": path for path in args.candidates},
    }
    with atomic_directory(args.output) as folder, open(folder / "tiles", "w+b") as tiles:
        draw = partial(_draw, category_colors(args.num_clusters), side)
        drawn = in_order(draw, _wanted(every(), shown, places), args.threads)
        objects, listed = _collect(drawn, len(places), side, Path(args.output), tiles)
        _write_sheets(folder, tiles, len(places), side)
        (folder / "tiles").unlink()
        record: ThumbnailsRecord = {
            "objects": objects,
            "pictures": listed,
            "side": side,
            "across": thumbnails.ACROSS,
            "per_sheet": thumbnails.PER_SHEET,
            "found": len(shown),
            "sampled": thumbnails.sample_size(len(shown), most),
            "looked_at": seen.looked_at,
            "empty": seen.empty,
            "tau": choice.min_score,
            "compare": choice.compare,
            "provenance": cast(Provenance, make_provenance("thumbnails", settings, inputs)),
        }
        write_json(folder / "objects.json", record)
    log.info("%d of %d objects of %d pictures", len(places), len(shown), seen.looked_at)


def _found(
    manifest: str, files: Mapping[int, str], names: Mapping[int, str], choice: Choice
) -> Iterator[Found]:
    """All pictures with their objects; one shard in memory at a time."""
    for shard in map(int, read_index(manifest)["shards"]):
        if shard not in files:
            raise MaskDistillError(
                f"--candidates: shard {shard} is missing; give the candidates of every shard"
            )
        rows = image_rows(ok_images(read_manifest(manifest, shard), support=False))
        found = pictures(rows, read_json(files[shard])["candidates"], names, choice)
        for row, picture in zip(rows, found, strict=True):
            yield Found(row, picture.objects)


def _survey(found: Iterator[Found]) -> Survey:
    categories, scores, looked_at, empty = array("q"), array("d"), 0, 0
    for _, objects in found:
        categories.extend(item.category_id for item in objects)
        scores.extend(item.score for item in objects)
        looked_at, empty = looked_at + 1, empty + (not objects)
    return Survey(np.array(categories, np.int64), np.array(scores, np.float64), looked_at, empty)


def _wanted(found: Iterator[Found], shown: NDArray[np.bool_], places: NDArray[np.int64]) -> Iterator[Wanted]:
    """Pictures with an object that is shown; the others are not opened."""
    chosen, place = iter(shown.tolist()), iter(places.tolist())
    for row, objects in found:
        own = [item for item, one in zip(objects, islice(chosen, len(objects)), strict=True) if one]
        if own:
            yield Wanted(row, [(next(place), item) for item in own])


def _draw(colors: Sequence[Color], side: int, wanted: Wanted) -> tuple[ImageRow, list[Drawn]]:
    photo = np.asarray(load_rgb(wanted.row.file))
    drawn = []
    for place, item in wanted.objects:
        tile = object_tile(photo, rle.decode(item.mask), colors[item.category_id - 1], side)
        drawn.append(Drawn(place, item, tile, thumbnails.outline_path(item.mask, thumbnails.whole_box(item))))
    return wanted.row, drawn


def _collect(
    drawn: Iterator[tuple[ImageRow, list[Drawn]]], count: int, side: int, output: Path, tiles: IO[bytes]
) -> tuple[ObjectColumns, PictureColumns]:
    """Put each thumbnail at its place in the file ``tiles``, and what is told of it into columns."""
    objects: ObjectColumns = {
        "category": [0] * count, "score": [0.0] * count, "picture": [0] * count, "area": [0] * count,
        "box": [0] * (4 * count), "outline": [""] * count,
    }  # fmt: skip
    listed: PictureColumns = {"name": [], "link": [], "size": []}

    def all_drawn() -> Iterator[Drawn]:
        for row, found in drawn:
            listed["name"].append(relative_name(row))
            listed["link"].append(_link(row.file, output.absolute().parent))
            listed["size"] += [row.width, row.height]
            yield from found

    for place, item, tile, outline in progress(all_drawn(), count, "thumbnails", "object"):
        os.pwrite(tiles.fileno(), tile.tobytes(), place * tile.nbytes)
        objects["category"][place] = item.category_id
        objects["score"][place] = round(item.score, 4)
        objects["picture"][place] = len(listed["name"]) - 1
        objects["area"][place] = item.area
        objects["box"][4 * place : 4 * place + 4] = thumbnails.whole_box(item)
        objects["outline"][place] = outline
    return objects, listed


def _link(file: str, folder: Path) -> str:
    """A file's address as seen from a page in a folder; empty within an archive."""
    return "" if inside(file) else quote(os.path.relpath(file, folder))


def _write_sheets(folder: Path, tiles: IO[bytes], count: int, side: int) -> None:
    """One JPEG after the other from the thumbnails in ``tiles``, which lie there in order."""
    size = 3 * side * side
    for number, first in enumerate(range(0, count, thumbnails.PER_SHEET)):
        data = os.pread(tiles.fileno(), size * min(thumbnails.PER_SHEET, count - first), size * first)
        pixels = thumbnails.sheet(np.frombuffer(data, np.uint8).reshape(-1, side, side, 3))
        path = folder / thumbnails.sheet_name(number)
        Image.fromarray(pixels).save(path, format="JPEG", quality=QUALITY, subsampling=0, optimize=True)
