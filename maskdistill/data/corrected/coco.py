"""COCO JSON with run lengths or polygons, from ``coco``, ``cvat``, ``fiftyone`` or CVAT."""

from collections.abc import Sequence
from pathlib import Path

from maskdistill.data.coco_file import CocoImage, read_coco
from maskdistill.data.coco_masks import Size, paint_mask
from maskdistill.data.coco_objects import CocoObjects
from maskdistill.data.corrected.base import Corrections, NamedMask, Reader, find_json, named
from maskdistill.data.truth_types import Losses

FILES = (
    "coco.json",
    "annotations/instances_default.json",
    "labels.json",
    "instances_default.json",
    "result.json",
)
"""Names in a folder: of our formats, of CVAT's export, and of Label Studio's."""


class CocoCorrections(Corrections):
    """The objects of a COCO file; ``iscrowd`` is not looked at, for tools set it on masks too."""

    def __init__(self, path: Path, losses: Losses) -> None:
        self._file = read_coco(str(path), losses)
        self._losses = losses
        self.files = [path]
        self._found = CocoObjects(self._file, losses)
        self._labels = [named(label) for label in self._file.labels.values()]
        self.names = [*dict.fromkeys(self._labels)]
        self.pictures = self._file.images

    def objects(self, entries: Sequence[CocoImage], size: Size) -> list[NamedMask]:
        """Those with masks."""
        masks = []
        for item in self._found.of(entries, size):
            painted = paint_mask(item.mask, size)
            if painted is None:
                self._losses.drop("annotation", item.annotation.place, "it has only a box, no mask")
            else:
                masks.append(NamedMask(self._labels[item.annotation.category_id - 1], painted))
        return masks


READER = Reader("coco", "a COCO JSON", lambda path: find_json(path, FILES, "{"), CocoCorrections)
