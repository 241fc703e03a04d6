"""Ground truth of pictures out of a COCO file."""

import logging
from collections.abc import Iterator, Sequence

from maskdistill.config import CocoData
from maskdistill.data.coco_file import CocoImage, read_coco
from maskdistill.data.coco_masks import Size, paint_mask
from maskdistill.data.coco_match import match_images
from maskdistill.data.coco_objects import Checked, CocoObjects
from maskdistill.data.manifest import ImageRow
from maskdistill.data.truth_types import Losses, TrueObject, check_size

log = logging.getLogger("maskdistill")


class CocoTruth:
    """The entries of a file that are about the given pictures.

    Args:
        data: the section; ``annotations`` is set.
        images: usable pictures. A height of 0 stands for a size that is not known: what the file tells counts
            then.
        losses: gets what is dropped.

    Raises:
        MaskDistillError: naming file, entry and field of what is wrong in it; or it is about other pictures.
    """

    def __init__(self, data: CocoData, images: Sequence[ImageRow], losses: Losses) -> None:
        self.file = read_coco(str(data.annotations), losses)
        self.losses = losses
        self._found = CocoObjects(self.file, losses)
        self._images = images
        self._entries = match_images(self.file.source, data.images, self.file.images, images, losses)
        source = self.file.source
        if self.file.annotations and not self.file.with_masks:
            log.warning("%s: boxes alone, no masks: mIoU and AP are not scored", source)
        if absent := len(self.file.images) - sum(len(entries) for entries in self._entries.values()):
            log.warning(
                "%s: %d of its images are not among the usable pictures and are ignored", source, absent
            )

    def objects(self) -> Iterator[tuple[ImageRow, list[TrueObject]]]:
        """Objects of each picture that has an entry, in the order of the pictures."""
        for row, size, checked in self._walk():
            yield row, [item.as_object(paint_mask(item.mask, size)) for item in checked]

    def check(self) -> int:
        """Find all that :meth:`objects` finds to be wrong in a tenth of its time; the number of objects."""
        return sum(len(checked) for _, _, checked in self._walk())

    def _walk(self) -> Iterator[tuple[ImageRow, Size, list[Checked]]]:
        for row in self._images:
            entries = self._entries.get(row.key, [])
            size = _size(row, entries)
            if entries and size is not None:
                checked = self._found.of(entries, size)
                for item in checked if self.file.with_masks else ():
                    if item.mask.empty:
                        reason = "it has only a box: mIoU and AP leave its picture out"
                        self.losses.drop("mask", item.annotation.place, reason)
                yield row, size, checked


def _size(row: ImageRow, entries: list[CocoImage]) -> Size | None:
    """Height and width of a picture, compared with what its entries tell; None where nothing tells it.

    Raises:
        MaskDistillError: they differ.
    """
    sizes = [(row.height, row.width)] if row.height else []
    for entry in entries:
        if entry.height is not None and entry.width is not None:
            sizes.append((entry.height, entry.width))
        if row.height:
            check_size(entry.place, row, entry.height or row.height, entry.width or row.width)
    return sizes[0] if sizes else None
