"""YOLO segmentation: ``data.yaml`` or ``classes.txt``, and a text per picture in ``labels/``.

Outlines are filled as Ultralytics does: vertices rounded down, edge included.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from maskdistill.data.coco_file import CocoImage
from maskdistill.data.coco_masks import Size
from maskdistill.data.corrected.base import Corrections, NamedMask, Reader, named, text_of
from maskdistill.data.picture_names import SUFFIXES
from maskdistill.data.truth_types import Losses, Place
from maskdistill.formats import rle
from maskdistill.formats.export.outlines import Ring, outlines, with_visible_cuts
from maskdistill.formats.rle import RLE
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.user_files import read_user_text, shown

LISTS = ("data.yaml", "classes.txt")
"""Files that name the classes; the first that is there counts."""
BEYOND = 0.01
"""Shares of a side by which a vertex may lie outside of the picture, as Ultralytics' reader has it."""


class YoloCorrections(Corrections):
    """The objects of a folder; a picture below ``images/`` without a text has none."""

    by_key: ClassVar[bool] = True

    def __init__(self, path: Path, losses: Losses) -> None:
        self._losses = losses
        file = next(path / name for name in LISTS if (path / name).is_file())
        self._classes = _classes(file)
        self.names = [*dict.fromkeys(self._classes.values())]
        texts = {_stem(file, path / "labels"): file for file in sorted((path / "labels").rglob("*.txt"))}
        images = sorted(file for file in (path / "images").rglob("*") if file.name.lower().endswith(SUFFIXES))
        self._texts = texts
        self.files = [file, *texts.values()]
        stems = dict.fromkeys([*texts, *(_stem(file, path / "images") for file in images)])
        self.pictures = [
            CocoImage(Place(str(texts.get(stem, path)), ""), stem, stem, None, None) for stem in stems
        ]

    def objects(self, entries: Sequence[CocoImage], size: Size) -> list[NamedMask]:
        """Those of each line that has an outline."""
        files = [self._texts[str(entry.id)] for entry in entries if entry.id in self._texts]
        return [item for file in files for item in self._of_file(file, size)]

    def _of_file(self, file: Path, size: Size) -> Iterator[NamedMask]:
        for number, line in enumerate(read_user_text(file).splitlines(), start=1):
            place = Place(str(file), f"line {number}")
            if not (words := line.split()):
                continue
            self._losses.expect("annotations")
            ring = _ring(words[1:], place)
            name = self._classes.get(words[0])
            if name is None:
                known = ", ".join(self._classes)
                raise place.wrong(
                    f"unknown class {shown(words[0])}; there are {known}", "name it, or correct the line"
                )
            if len(ring) < 3:
                self._losses.drop("annotation", place, "it has only a box, no outline")
                continue
            mask = filled(ring, size)
            if mask.any():
                yield NamedMask(name, rle.encode(mask))
            else:
                self._losses.drop("annotation", place, "its outline holds no pixel of the picture")


def filled(ring: Ring, size: Size) -> npt.NDArray[np.bool_]:
    """Mask, bool (H, W), of an outline (n, 2) in shares of width and height."""
    drawn = np.zeros(size, dtype=np.uint8)
    cv2.fillPoly(drawn, [np.floor(ring * (size[1], size[0])).astype(np.int32)], 1)
    return drawn.astype(bool)


def _ring(words: Sequence[str], place: Place) -> Ring:
    """Vertices (n, 2); two are a box's centre and sides."""
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        raise place.wrong(f"holds {shown(' '.join(words))}, not numbers") from None
    if values.size < 4 or values.size % 2:
        raise place.wrong(f"has {values.size} numbers behind its class, not the x and y of each vertex")
    if not ((values >= -BEYOND) & (values <= 1 + BEYOND)).all():
        raise place.wrong("holds numbers outside of 0 to 1, not shares of the picture's width and height")
    return values.reshape(-1, 2)


def _classes(file: Path) -> dict[str, str]:
    """Number of each class, as lines have it, and its name."""
    place = Place(str(file))
    if file.name == "classes.txt":
        return {str(number): named(name) for number, name in enumerate(read_user_text(file).splitlines())}
    try:
        content = yaml.safe_load(read_user_text(file))
    except yaml.YAMLError as error:
        raise MaskDistillError(
            f"{file}: not YAML ({' '.join(str(error).split())}); correct the file"
        ) from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise place.wrong("names is missing: it lists the classes")
    return {str(number): named(text_of(name, place, f"names.{number}")) for number, name in names.items()}


def _stem(file: Path, folder: Path) -> str:
    """Path below a folder without its ending."""
    return file.relative_to(folder).as_posix().rpartition(".")[0]


def _find(path: Path) -> Path | None:
    folder = path.parent if path.name in LISTS else path
    there = (folder / "labels").is_dir() and any((folder / name).is_file() for name in LISTS)
    return folder if there else None


def _as_written(mask: RLE) -> RLE:
    return with_visible_cuts(outlines(mask), mask)


READER = Reader("yolo", "a folder with data.yaml and labels/", _find, YoloCorrections, _as_written)
