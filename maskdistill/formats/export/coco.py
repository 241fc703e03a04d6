"""COCO: one JSON file with run lengths or polygons."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from maskdistill.formats.coco import CocoObject
from maskdistill.formats.export.outlines import polygons
from maskdistill.formats.export.records import Context, ObjectRecord, Picture
from maskdistill.formats.export.registry import Append, ExportFormat, NoOptions
from maskdistill.runtime.files import canonical_json
from maskdistill.runtime.json_stream import JsonObject

INFO = {"description": "MaskDistill: categories were discovered without labels"}


class Options(NoOptions):
    """``polygons``: outlines instead of run lengths."""

    polygons: bool = False


def annotation(item: ObjectRecord, number: int, image_id: int) -> CocoObject:
    """An object with the id ``number`` and its mask as run lengths."""
    return {
        "id": number, "image_id": image_id, "category_id": item.category_id, "bbox": list(item.box),
        "area": item.area, "segmentation": item.mask, "iscrowd": 0, "score": item.score,
    }  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How a kind of COCO file differs from the plain one.

    Attributes:
        names: category -> name.
        fields: gives the keys of an annotation that are added to, or replace, those of :func:`annotation`.
        name_of: gives a picture's ``file_name``.
        more: further keys of the file, which follow ``images`` in the alphabet.
    """

    names: Mapping[int, str]
    fields: Callable[[ObjectRecord], Mapping[str, Any]] = lambda item: {}
    name_of: Callable[[Picture], str] = lambda picture: picture.file
    more: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def coco_object(content: JsonObject, form: Form) -> Iterator[Append]:
    """Write COCO's keys into a JSON object, one picture after the other, with a flat memory.

    Yields:
        A function that takes a picture; ids of objects count from 1.
    """
    number = 0
    with TemporaryFile("w+", encoding="utf-8") as listed:
        with content.array("annotations") as append:

            def add(picture: Picture) -> None:
                nonlocal number
                for item in picture.objects:
                    number += 1
                    append({**annotation(item, number, picture.image_id), **form.fields(item)})
                size = {"width": picture.width, "height": picture.height}
                listed.write(
                    canonical_json({"id": picture.image_id, "file_name": form.name_of(picture), **size})
                    + "\n"
                )

            yield add
        content.value(
            "categories", [{"id": category, "name": name} for category, name in sorted(form.names.items())]
        )
        listed.seek(0)
        with content.array("images") as append:
            for line in listed:
                append(json.loads(line))
    for key, value in sorted({"info": INFO, "licenses": [], **form.more}.items()):
        content.value(key, value)


@contextmanager
def coco_file(path: Path, form: Form) -> Iterator[Append]:
    """A COCO JSON without a seal, for other tools; see :func:`coco_object`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb", buffering=2**20) as stream:
        content = JsonObject(stream)
        with coco_object(content, form) as append:
            yield append
        content.close()


def outlined(simplify: float) -> Callable[[ObjectRecord], Mapping[str, Any]]:
    """Fields of annotations with polygons."""
    return lambda item: {"segmentation": polygons(item.mask, simplify)}


@contextmanager
def write(folder: Path, context: Context, options: Options) -> Iterator[Append]:
    """Write ``coco.json``; file names are relative to the folder of photographs."""
    form = Form(context.names, outlined(context.simplify)) if options.polygons else Form(context.names)
    with coco_file(folder / "coco.json", form) as append:
        yield append


FORMAT = ExportFormat(
    "coco", "pycocotools, detectron2, MMDetection, Roboflow: open `coco.json`", write, Options
)
