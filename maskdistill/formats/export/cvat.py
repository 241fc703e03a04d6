"""CVAT: the COCO layout that it imports, and the labels of the task."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maskdistill.formats.export.coco import Form, coco_file
from maskdistill.formats.export.outlines import polygons
from maskdistill.formats.export.records import Context, ObjectRecord
from maskdistill.formats.export.registry import Append, ExportFormat, NoOptions
from maskdistill.formats.label_png import color_map
from maskdistill.runtime.files import canonical_json


class Options(NoOptions):
    """``masks``: run lengths, which CVAT shows as masks, instead of polygons."""

    masks: bool = False


@contextmanager
def write(folder: Path, context: Context, options: Options) -> Iterator[Append]:
    """Write ``annotations/instances_default.json`` and ``labels.json``, the task's labels for its tab "Raw".

    Labels are unique in CVAT, so categories with the same name become one. The score is an attribute of the
    label.
    """
    first = {name: category for category, name in sorted(context.names.items(), reverse=True)}
    names = {category: name for name, category in sorted(first.items(), key=lambda item: item[1])}
    labels = [_label(category, name) for category, name in names.items()]
    (folder / "labels.json").write_text(canonical_json(labels) + "\n", encoding="utf-8")

    def fields(item: ObjectRecord) -> Mapping[str, Any]:
        masks = item.mask if options.masks else polygons(item.mask, context.simplify)
        attributes = {"score": item.score}
        return {"category_id": first[item.name], "segmentation": masks, "attributes": attributes}

    with coco_file(folder / "annotations/instances_default.json", Form(names, fields)) as append:
        yield append


def _label(category: int, name: str) -> dict[str, Any]:
    color = "#{:02x}{:02x}{:02x}".format(*color_map()[category % 256].tolist())
    score = {"name": "score", "input_type": "text", "mutable": False, "values": [""], "default_value": ""}
    return {"name": name, "color": color, "type": "any", "attributes": [score]}


FORMAT = ExportFormat(
    "cvat", "CVAT: labels from `labels.json`, then upload annotations, COCO 1.0", write, Options
)
