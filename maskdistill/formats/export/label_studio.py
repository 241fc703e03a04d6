"""Label Studio: tasks with predictions that annotators accept or correct, and the labelling interface for
them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from maskdistill.formats import rle
from maskdistill.formats.export.outlines import outlines, with_cuts
from maskdistill.formats.export.records import Context, ObjectRecord, Picture
from maskdistill.formats.export.registry import Append, ExportFormat, NoOptions
from maskdistill.runtime.files import canonical_json

RUN_BITS = (3, 4, 8, 16)
"""A run's length is written in the smallest of these numbers of bits that can hold it."""


class Options(NoOptions):
    """``brush``: masks to paint on instead of polygons; ``prefix``: what precedes a picture's name."""

    brush: bool = False
    prefix: str = "/data/local-files/?d="


@contextmanager
def write(folder: Path, context: Context, options: Options) -> Iterator[Append]:
    """Write ``tasks.json`` and ``interface.xml``.

    Pictures are named by ``prefix`` and their names below the folder of photographs, which the default
    expects to be Label Studio's ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``.
    """
    (folder / "interface.xml").write_text(_interface(context, options.brush), encoding="utf-8")
    with open(folder / "tasks.json", "w", encoding="utf-8") as stream:
        before = "[\n"

        def append(picture: Picture) -> None:
            nonlocal before
            stream.write(before + canonical_json(_task(picture, context.simplify, options)))
            before = ",\n"

        yield append
        stream.write("\n]\n" if before != "[\n" else "[]\n")


def _interface(context: Context, brush: bool) -> str:
    kind = "BrushLabels" if brush else "PolygonLabels"
    names = dict.fromkeys(name for _, name in sorted(context.names.items()))
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in names)
    head = '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
    return f'{head}  <{kind} name="label" toName="image">\n{labels}\n  </{kind}>\n</View>\n'


def _task(picture: Picture, simplify: float, options: Options) -> dict[str, Any]:
    found = [
        region
        for item in enumerate(picture.objects, 1)
        for region in _regions(picture, *item, simplify, options)
    ]
    score = max((item.score for item in picture.objects), default=0.0)
    prediction = {"model_version": "maskdistill", "score": score, "result": found}
    return {"data": {"image": options.prefix + quote(picture.file)}, "predictions": [prediction]}


def _regions(
    picture: Picture, number: int, item: ObjectRecord, simplify: float, options: Options
) -> Iterator[dict[str, Any]]:
    """An object's mask, or one polygon per part: Label Studio's polygons have only one ring."""
    kind = "brushlabels" if options.brush else "polygonlabels"
    values: list[dict[str, Any]]
    if options.brush:
        values = [{"format": "rle", "rle": brush_rle(rle.decode(item.mask))}]
    else:
        percent = 100 / np.array([picture.width, picture.height])
        rings = [(with_cuts(part) * percent).round(5).tolist() for part in outlines(item.mask, simplify)]
        values = [{"closed": True, "points": ring} for ring in rings]
    for part, value in enumerate(values):
        yield {
            "id": f"{picture.image_id}-{number}-{part}", "type": kind, "from_name": "label",
            "to_name": "image",
            "original_width": picture.width, "original_height": picture.height, "image_rotation": 0,
            "score": item.score, "value": value | {kind: [item.name]},
        }  # fmt: skip


def brush_rle(mask: npt.NDArray[np.bool_]) -> list[int]:
    """A mask in Label Studio's encoding: run lengths of its RGBA values, four equal ones per pixel, row by
    row.

    A stream of bits. Header: number of values (32 bits), bits per value minus 1 (5 bits), the four sizes of a
    run's length minus 1 (4 bits each, :data:`RUN_BITS`). Each run: a 1, the index of its size (2 bits), its
    length minus 1, the value.

    Args:
        mask: bool (H, W).
    """
    values = mask.ravel().astype(np.uint8)
    ends = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), values.size]
    bits = [f"{4 * values.size:032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in RUN_BITS)]
    for start, stop in pairwise(ends):
        value, left = f"{255 * int(values[start]):08b}", 4 * (stop - start)
        while left:
            length = min(left, 2 ** RUN_BITS[-1])
            which, size = next(found for found in enumerate(RUN_BITS) if length <= 2 ** found[1])
            bits.append(f"1{which:02b}{length - 1:0{size}b}{value}")
            left -= length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8))


FORMAT = ExportFormat(
    "label_studio",
    "Label Studio: import `tasks.json`; `interface.xml` is the labelling interface",
    write,
    Options,
)
