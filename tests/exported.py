"""Pictures with objects, for the tests of formats, and how one is written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskdistill.formats import rle
from maskdistill.formats.export.records import Context, ObjectRecord, Picture
from maskdistill.formats.export.registry import parse_formats
from maskdistill.product.objects import placer

Mask = npt.NDArray[np.bool_]
NAMES = {1: "cup & saucer", 2: "Bär", 3: "cluster-02"}
HEIGHT, WIDTH = 61, 84


def disc(y: float, x: float, radius: float, height: int = HEIGHT, width: int = WIDTH) -> Mask:
    """A disc in a picture, bool (H, W)."""
    rows, columns = np.mgrid[:height, :width]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def record(mask: Mask, category: int, score: float) -> ObjectRecord:
    """An object of NAMES."""
    return ObjectRecord(category, NAMES[category], score, rle.encode(mask))


def sample(root: Path) -> list[Picture]:
    """A ring, an object of two parts and a disc; no object at all; two objects that overlap and a single
    pixel.
    """
    ring = disc(20, 22, 15) & ~disc(20, 22, 7)
    parts = disc(48, 20, 8) | disc(45, 45, 9)
    pixel = np.zeros((HEIGHT, WIDTH), bool)
    pixel[-1, -1] = True
    objects: list[tuple[ObjectRecord, ...]] = [
        (record(ring, 1, 0.95), record(parts, 2, 0.75), record(disc(20, 65, 12), 1, 0.5)),
        (),
        (record(disc(30, 30, 16), 3, 0.9), record(disc(30, 44, 16), 2, 0.8), record(pixel, 3, 0.7)),
    ]
    found = []
    for number, (file, items) in enumerate(
        zip(("sub/a b.jpg", "b.png", "c.jpeg"), objects, strict=True), start=1
    ):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (number, 2, 3)).save(path)
        found.append(Picture(number, file.rpartition(".")[0], file, path, HEIGHT, WIDTH, items))
    return found


def write(
    folder: Path,
    choice: str,
    pictures: Sequence[Picture],
    simplify: float = 0.0,
    names: Mapping[int, str] = NAMES,
) -> Path:
    """Write pictures in a format; the folder."""
    (chosen,) = parse_formats(choice)
    folder.mkdir(parents=True)
    with chosen.write(folder, Context(names, placer(copy=False), simplify)) as append:
        for picture in pictures:
            append(picture)
    return folder


def iou(one: Any, other: Any) -> float:
    """Of two masks."""
    return float((one & other).sum() / (one | other).sum())
