"""Images as several stages label them, side by side: what pages of comparison show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill.cli.evaluation_inputs import read_semantic
from maskdistill.data.images import load_rgb
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage
from maskdistill.formats.label_png import read_label_png
from maskdistill.report import montage
from maskdistill.report.html import missing, picture
from maskdistill.report.masks import pick_evenly
from maskdistill.report.montage import Color, Rgb
from maskdistill.runtime.errors import MaskDistillError

Labels = npt.NDArray[np.uint8]
TILE = 224


@dataclass(frozen=True)
class Column:
    """One way to label an image.

    Attributes:
        title: short.
        labels: label map uint8 (H, W) of an image.
        colors: of label values.
    """

    title: str
    labels: Callable[[TruthImage], Labels]
    colors: dict[int, Color]


@dataclass(frozen=True)
class Tile:
    """One picture of a strip; where there is nothing to show, the photo, and ``missing`` says why."""

    title: str
    pixels: Rgb
    missing: str = ""


def class_colors(truth: GroundTruth) -> dict[int, Color]:
    """Colour of each class 1..C."""
    return dict(enumerate(montage.category_colors(len(truth.class_names) - 1), start=1))


def shown_images(truth: GroundTruth, count: int) -> list[TruthImage]:
    """Up to ``count`` images at even steps, of those with semantic maps where there are some."""
    scored = [image for image in truth.images if image.has_semantic] or list(truth.images)
    return [scored[place] for place in pick_evenly(count, len(scored))]


def label_strip(
    photo: str | Path, image: TruthImage, columns: Sequence[Column], truth: GroundTruth, ground_truth: str
) -> list[Tile]:
    """Photo, each column's labels and ground truth, with longer sides of :data:`TILE`.

    Args:
        photo: the picture's file.
        image: of ``truth``.
        ground_truth: path of ``instances.json``.
    """
    pixels = montage.fit(load_rgb(photo), TILE)

    def tile(title: str, labels: Labels, colors: dict[int, Color]) -> Tile:
        small = montage.fit_labels(labels, pixels.shape[:2])
        return Tile(title, montage.label_tile(pixels, small, colors))

    tiles = [Tile("photo", pixels)]
    tiles += [tile(column.title, column.labels(image), column.colors) for column in columns]
    if image.has_semantic:
        tiles.append(tile("ground truth", read_semantic(ground_truth, image, truth), class_colors(truth)))
    else:
        tiles.append(Tile("ground truth", pixels, "no semantic map"))
    return tiles


def read_label_map(folder: Path, key: str) -> Labels:
    """The label map of an image, uint8 (H, W), in whichever shard of the folder it is.

    Raises:
        MaskDistillError: no shard holds it.
    """
    for shard in sorted(folder.glob("shard-*")):
        if (path := shard / f"{key}.png").is_file():
            return read_label_png(path)
    raise MaskDistillError(
        f"{folder}: no label map of {key} in its shards; run the stage that makes it again"
    )


def strip_pictures(key: str, tiles: Sequence[Tile]) -> dict[str, Any]:
    """One image's tiles as a page takes them."""
    shown = [
        missing(tile.pixels, tile.title, tile.missing)
        if tile.missing
        else picture(tile.pixels, f"{tile.title} of {key}", tile.title)
        for tile in tiles
    ]
    return {"key": key, "tiles": shown}
