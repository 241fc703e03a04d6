"""Objects of pictures out of a COCO file, each checked before anything is painted."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from maskdistill.data.coco_file import CocoAnnotation, CocoFile, CocoImage, Id, area_of, crowd_of, real
from maskdistill.data.coco_masks import Mask, Size, holds_pixels, parse_mask, reach
from maskdistill.data.truth_types import Losses, Place, TrueObject
from maskdistill.formats import rle
from maskdistill.runtime.user_files import shown


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


class CocoObjects:
    """The objects of a file.

    Args:
        file: with checked ids.
        losses: gets what is dropped.
    """

    def __init__(self, file: CocoFile, losses: Losses) -> None:
        self.file = file
        self.losses = losses

    def of(self, entries: Sequence[CocoImage], size: Size) -> list[Checked]:
        """Those of one picture, by all its entries, each object once.

        Args:
            size: height and width of the picture.

        Raises:
            MaskDistillError: naming file, entry and field of what is wrong.
        """
        ids = dict.fromkeys(entry.id for entry in entries)
        annotations = [item for number in ids for item in self.file.annotations.get(number, [])]
        self.losses.expect("annotations", len(annotations))
        return self._once([found for item in annotations if (found := self._checked(item, size)) is not None])

    def _checked(self, annotation: CocoAnnotation, size: Size) -> Checked | None:
        """One annotation with every field checked; None where it encloses nothing and is dropped."""
        place, values = annotation.place, annotation.values
        mask = parse_mask(values.get("segmentation"), size, place)
        box = _box(values.get("bbox"), size, place)
        area, crowd = area_of(values, place), crowd_of(values, place)
        nothing = encloses_nothing(box, size) if box else ""
        if mask.short:
            self.losses.drop(
                "polygon", place, f"{mask.short} polygons of its mask have fewer than three points"
            )
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
        return Checked(annotation, mask, box, area, crowd)

    def _once(self, found: list[Checked]) -> list[Checked]:
        """Each object once, where a picture's entries or an annotation id repeat it."""
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
    return (
        "lies outside of the picture"
        if x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0
        else ""
    )
