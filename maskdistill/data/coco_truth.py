"""Ground truth of pictures out of a COCO file."""

import logging
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

from maskdistill.config import CocoData
from maskdistill.data.coco_file import CocoAnnotation, CocoImage, Id, area_of, crowd_of, read_coco, real
from maskdistill.data.coco_masks import Mask, Size, holds_pixels, paint_mask, parse_mask, reach
from maskdistill.data.coco_match import match_images
from maskdistill.data.manifest import ImageRow
from maskdistill.data.truth_types import Losses, Place, TrueObject, check_size
from maskdistill.formats import rle
from maskdistill.runtime.user_files import shown

log = logging.getLogger("maskdistill")


class Checked(NamedTuple):
    """An annotation whose every field is known to be sound; ``box`` or the mask may be missing, not both."""

    annotation: CocoAnnotation
    mask: Mask
    box: list[float] | None
    area: float | None
    crowd: int

    def content(self) -> Hashable:
        """What two annotations of one object have in common."""
        outlines = tuple(polygon.tobytes() for polygon in self.mask.polygons)
        counts = tuple(part["counts"] for part in self.mask.runs)
        return self.annotation.category_id, self.crowd, tuple(self.box or ()), outlines, counts

    def as_object(self, painted: rle.RLE | None) -> TrueObject:
        """The object, given its painted mask."""
        box = self.box or rle.bbox(painted or {})
        area = self.area
        if area is None:
            area = float(rle.area(painted)) if painted else box[2] * box[3]
        return TrueObject(self.annotation.category_id, box, area, self.crowd, painted)


class CocoTruth:
    """The entries of a file that are about the given pictures.

    Args:
        data: the section; ``annotations`` is set.
        images: usable pictures. A height of 0 stands for a size that is not known: what the file tells counts then.
        losses: gets what is dropped.

    Raises:
        MaskDistillError: naming file, entry and field of what is wrong in it; or it is about other pictures.
    """

    def __init__(self, data: CocoData, images: Sequence[ImageRow], losses: Losses) -> None:
        self.file = read_coco(str(data.annotations), losses)
        self.losses = losses
        self._images = images
        self._entries = match_images(self.file.source, data.images, self.file.images, images, losses)
        source = self.file.source
        if self.file.annotations and not self.file.with_masks:
            log.warning("%s: boxes alone, no masks: mIoU and AP are not scored", source)
        if absent := len(self.file.images) - sum(len(entries) for entries in self._entries.values()):
            log.warning("%s: %d of its images are not among the usable pictures and are ignored", source, absent)

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
                ids = dict.fromkeys(entry.id for entry in entries)
                annotations = [item for number in ids for item in self.file.annotations.get(number, [])]
                self.losses.expect("annotations", len(annotations))
                checked = [found for item in annotations if (found := self._checked(item, size)) is not None]
                yield row, size, self._once(checked)

    def _checked(self, annotation: CocoAnnotation, size: Size) -> Checked | None:
        """One annotation with every field checked; None where it encloses nothing and is dropped."""
        place, values = annotation.place, annotation.values
        mask = parse_mask(values.get("segmentation"), size, place)
        box = _box(values.get("bbox"), size, place)
        area, crowd = area_of(values, place), crowd_of(values, place)
        nothing = encloses_nothing(box, size) if box else ""
        if mask.short:
            self.losses.drop("polygon", place, f"{mask.short} polygons of its mask have fewer than three points")
        if not mask.empty:
            if not holds_pixels(mask, size):
                self.losses.drop("annotation", place, "its mask holds no pixel of the picture")
                return None
            if nothing and box and box[2] and box[3]:
                raise place.wrong(f"bbox {box} {nothing}, and the mask does not")
            return Checked(annotation, mask, None if nothing else box, area, crowd)
        if box is None:
            raise place.wrong("has neither a mask in segmentation nor a bbox", "give one of them")
        if nothing:
            self.losses.drop("annotation", place, f"it has no mask, and its box {nothing}")
            return None
        if self.file.with_masks:
            self.losses.drop("mask", place, "it has a box alone: mIoU and AP leave its picture out")
        return Checked(annotation, mask, box, area, crowd)

    def _once(self, found: list[Checked]) -> list[Checked]:
        """Each object once: equal ones of one picture's several entries, or with one annotation id, are the same."""
        owners = [(item.annotation.image_id, item.annotation.id) for item in found]
        if len({image for image, _ in owners}) <= 1 and len(set(owners)) == len(owners):
            return found
        kept: list[Checked] = []
        seen: dict[Hashable, list[tuple[Id, Id | None]]] = {}
        for item, (image, number) in zip(found, owners, strict=True):
            others = seen.setdefault(item.content(), [])
            if any(other != image or (number is not None and same == number) for other, same in others):
                self.losses.drop("repetition", item.annotation.place, "it is there twice, and counts once")
            else:
                others.append((image, number))
                kept.append(item)
        return kept


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


def _box(value: Any, size: Size, place: Place) -> list[float] | None:
    """The field ``bbox``: x, y, width and height in pixels; None where it is missing."""
    if value is None or value == []:
        return None
    if not isinstance(value, list) or len(value) != 4:
        raise place.wrong(f"bbox is {shown(value)}, not [x, y, width, height]")
    box = [real(number, place, f"bbox[{index}]", reach(size)) for index, number in enumerate(value)]
    if min(box[2:]) < 0:
        raise place.wrong(f"bbox is {shown(value)}, of negative width or height")
    return box


def encloses_nothing(box: Sequence[float], size: Size) -> str:
    """Why a box holds nothing of a picture (height, width); empty if it does."""
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return "is empty"
    return "lies outside of the picture" if x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0 else ""
