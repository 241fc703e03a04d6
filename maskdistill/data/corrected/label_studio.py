"""Label Studio's JSON export (not JSON-MIN): polygons and brush masks of each task's newest annotation.

``tasks.json`` as ``maskdistill objects`` writes it has predictions alone; these count where a task has no
annotations.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from maskdistill.data.coco_file import CocoImage, real, whole
from maskdistill.data.coco_masks import Size, paint_mask, parse_mask
from maskdistill.data.corrected.base import Corrections, NamedMask, Reader, find_json, named, text_of
from maskdistill.data.corrected.brush import brush_mask
from maskdistill.data.truth_types import Losses, Place
from maskdistill.formats import rle
from maskdistill.runtime.user_files import read_user_json, shown

UPLOAD = re.compile(r"(.*/)?upload/\d+/[0-9a-f]{8}-(?P<name>[^/]+)")
"""Where Label Studio keeps an uploaded picture."""
PART = re.compile(r"(?P<object>\d+-\d+)-\d+")
"""Id of a region that ``maskdistill objects`` wrote; Label Studio keeps it, so an object's parts are known
again.
"""
MOST_SIDE = 1 << 31
MOST_PERCENT = 1000.0


class _Region(NamedTuple):
    place: Place
    values: dict[str, Any]
    kind: str
    name: str


class LabelStudioCorrections(Corrections):
    """The objects of an export."""

    def __init__(self, path: Path, losses: Losses) -> None:
        self._losses = losses
        self._regions: list[list[_Region]] = []
        self.pictures, self.files = [], [path]
        for index, task in enumerate(read_user_json(path)):
            place = Place(str(path), f"task {index}")
            if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
                raise place.wrong("is no task with data", "export as JSON, not JSON-MIN")
            if (result := _result(task, place, losses)) is None:
                continue
            regions = [one for entry in enumerate(result) if (one := self._region(*entry, place)) is not None]
            sides = _sides(regions)
            self.pictures.append(
                CocoImage(place, len(self._regions), _picture_name(task["data"], place), *sides)
            )
            self._regions.append(regions)
        self.names = sorted({region.name for regions in self._regions for region in regions})

    def _region(self, index: int, values: Any, task: Place) -> _Region | None:
        place = task._replace(entry=f"{task.entry}: result {index}")
        if not isinstance(values, dict) or not isinstance(values.get("value"), dict):
            raise place.wrong("is no region with a value")
        self._losses.expect("annotations")
        kind = values.get("type")
        if kind not in ("polygonlabels", "brushlabels"):
            self._losses.drop("annotation", place, f"{shown(kind)} is neither polygonlabels nor brushlabels")
            return None
        labels = values["value"].get(kind)
        if not isinstance(labels, list) or not labels:
            self._losses.drop("annotation", place, "it has no label")
            return None
        if values.get("image_rotation"):
            self._losses.drop(
                "annotation", place, f"its picture was turned by {shown(values['image_rotation'])} degrees"
            )
            return None
        return _Region(place, values, kind, named(text_of(labels[0], place, f"value.{kind}[0]")))

    def objects(self, entries: Sequence[CocoImage], size: Size) -> list[NamedMask]:
        """Those of one picture; regions that were the parts of one object are one again."""
        groups: dict[tuple[str, str], list[rle.RLE]] = {}
        for number, region in enumerate(one for entry in entries for one in self._regions[int(entry.id)]):
            part = PART.fullmatch(str(region.values.get("id")))
            group = part["object"] if part else f"region {number}"
            if (mask := _mask(region, size)) is None:
                self._losses.drop("annotation", region.place, "it holds no pixel of the picture")
            else:
                groups.setdefault((group, region.name), []).append(mask)
        return [NamedMask(name, _union(masks)) for (_, name), masks in groups.items()]


def _result(task: dict[str, Any], place: Place, losses: Losses) -> list[Any] | None:
    """The regions that count of a task; None where nobody annotated it."""
    given = task.get("annotations", task.get("predictions"))
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise place.wrong(f"annotations is {shown(given)}, not a list of annotations")
    kept = [one for one in given if not one.get("was_cancelled")]
    if not kept:
        return None
    newest = max(kept, key=lambda one: str(one.get("updated_at", "")))
    if len(kept) > 1:
        losses.drop("repetition", place, f"of {len(kept)} annotations the newest counts")
    result = newest.get("result", [])
    if not isinstance(result, list):
        raise place.wrong(f"result is {shown(result)}, not a list of regions")
    return result


def _picture_name(data: dict[str, Any], place: Place) -> str:
    """A picture's name in its address: behind the host, behind ``?d=``, or an upload's own."""
    texts = [value for value in data.values() if isinstance(value, str)]
    address = text_of(data.get("image", texts[0] if len(texts) == 1 else None), place, "data.image")
    if upload := UPLOAD.fullmatch(unquote(address)):
        return upload["name"]
    before, found, name = address.partition("?d=")
    if found:
        return unquote(name)
    return unquote(urlsplit(address).path.lstrip("/") if "://" in before else address)


def _sides(regions: Sequence[_Region]) -> tuple[int | None, int | None]:
    """Height and width that the first region tells of its picture."""
    for region in regions[:1]:
        height, width = (
            whole(region.values.get(f"original_{side}"), region.place, f"original_{side}", 1, MOST_SIDE)
            for side in ("height", "width")
        )
        return height, width
    return None, None


def _mask(region: _Region, size: Size) -> rle.RLE | None:
    """A region's pixels; None where it has none."""
    value, place = region.values["value"], region.place
    if region.kind == "brushlabels":
        mask = brush_mask(value.get("rle"), size, place)
        return rle.encode(mask) if mask.any() else None
    points = value.get("points")
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        raise place.wrong(f"value.points is {shown(points)}, not a list of points")
    scale = (size[1] / 100, size[0] / 100)
    numbers = [
        real(point[axis], place, "value.points", MOST_PERCENT) * scale[axis]
        for point in points
        for axis in (0, 1)
    ]
    painted = paint_mask(parse_mask([numbers], size, place), size)
    return painted if painted is not None and rle.area(painted) else None


def _union(masks: Sequence[rle.RLE]) -> rle.RLE:
    together = rle.decode(masks[0])
    for mask in masks[1:]:
        together |= rle.decode(mask)
    return rle.encode(together)


READER = Reader(
    "label_studio",
    "Label Studio's JSON export",
    lambda path: find_json(path, ("tasks.json",), "["),
    LabelStudioCorrections,
)
