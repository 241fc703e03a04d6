"""YOLO segmentation: one text file per picture with one line per object, and ``data.yaml``.

A line holds one ring. Parts and holes are joined at their nearest vertices by cuts that are traversed twice,
as in Ultralytics' own converter from COCO, so an object stays one object. Ultralytics' reader rounds vertices
down, supervision's to the nearest, and both fill with OpenCV, edge included. Vertices therefore lie a quarter
above whole pixels: exact outlines reproduce the mask except for the cuts, which are one pixel wide.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml

from maskdistill.formats import rle
from maskdistill.formats.export.outlines import LEAST_IOU, Part, as_one, outlines, with_visible_cuts
from maskdistill.formats.export.records import Context, ObjectRecord, Picture
from maskdistill.formats.export.registry import Append, ExportFormat, NoOptions
from maskdistill.formats.rle import RLE


@contextmanager
def write(folder: Path, context: Context, options: NoOptions) -> Iterator[Append]:
    """Write ``images/``, ``labels/``, ``scores/`` (one line per label) and ``data.yaml``; classes count from
    0.

    Files are named after the pictures' keys: Ultralytics finds ``labels/a.txt`` for ``images/a.jpg``.
    """

    def append(picture: Picture) -> None:
        context.place(picture, folder / "images" / f"{picture.key}{picture.ending}")
        lines = [_line(item, picture, context.simplify) for item in picture.objects]
        for name, content in (
            ("labels", lines),
            ("scores", [f"{item.score:.6g}" for item in picture.objects]),
        ):
            path = folder / name / f"{picture.key}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{line}\n" for line in content), encoding="utf-8")

    yield append
    names = {category - 1: name for category, name in sorted(context.names.items())}
    data = {"train": "images", "val": "images", "names": names}  # below the file's own folder: no "path"
    with open(folder / "data.yaml", "w", encoding="utf-8") as stream:
        yaml.safe_dump(data, stream, sort_keys=False, allow_unicode=True)


def _line(item: ObjectRecord, picture: Picture, simplify: float) -> str:
    """The class and a ring as shares of width and height; seven digits distinguish hundredths of a pixel."""
    parts = outlines(item.mask, simplify, lambda parts: _near(parts, item.mask))
    shares = (np.floor(as_one(parts)) + 0.25) / (picture.width, picture.height)
    return " ".join([str(item.category_id - 1), *(f"{value:.7g}" for value in shares.ravel())])


def _near(parts: list[Part], mask: RLE) -> bool:
    """Whether parts, filled as by Ultralytics, are close enough to a mask."""
    again = with_visible_cuts(parts, mask)
    return bool(rle.iou([again], [mask], np.zeros(1, bool))[0, 0] >= LEAST_IOU)


FORMAT = ExportFormat("yolo", "Ultralytics: `yolo segment train data=.../data.yaml`", write)
