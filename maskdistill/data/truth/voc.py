"""Ground truth of PASCAL VOC: label maps, or boxes where there are none."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from maskdistill.data.coco_masks import reach
from maskdistill.data.coco_objects import encloses_nothing
from maskdistill.data.manifest import ImageRow
from maskdistill.data.sources.voc import VocData
from maskdistill.data.truth.base import SourceTruth, object_of
from maskdistill.data.truth_types import IGNORE, ImageTruth, Losses, Place, TrueObject, check_size
from maskdistill.formats.label_png import read_label_png
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.user_files import printable_text, shown

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class Truth(SourceTruth[VocData]):
    """Files below SegmentationClass, SegmentationObject and Annotations."""

    TRAIN: ClassVar[bool] = True

    def count_classes(self, built: bool) -> int:
        """20."""
        return len(VOC_CLASSES)

    def read(self, images: Sequence[ImageRow], losses: Losses) -> tuple[list[str], Iterator[ImageTruth]]:
        """Of each picture that has a label map or a file of boxes."""
        return list(VOC_CLASSES), self._truths(images, losses)

    def _truths(self, images: Sequence[ImageRow], losses: Losses) -> Iterator[ImageTruth]:
        root = Path(self.data.root).expanduser()
        known = 0
        for row in images:
            class_png = root / "SegmentationClass" / f"{row.key}.png"
            object_png = root / "SegmentationObject" / f"{row.key}.png"
            xml = root / "Annotations" / f"{row.key}.xml"
            losses.expect("images")
            semantic = _read_png(class_png, row, len(VOC_CLASSES)) if class_png.is_file() else None
            has_masks = semantic is not None and object_png.is_file()
            if semantic is not None and has_masks:
                objects = voc_objects(
                    semantic, _read_png(object_png, row, IGNORE - 1), Place(str(object_png)), losses
                )
            elif xml.is_file():
                objects = _read_boxes(xml, row, losses)
            elif semantic is not None:
                objects = []
            else:
                losses.drop(
                    "image", Place(str(root), row.key), "neither SegmentationClass nor Annotations has it"
                )
                continue
            known += 1
            yield ImageTruth(row.image_id, objects, has_masks, semantic)
        if not known:
            raise MaskDistillError(
                f"data.root: {root} has neither SegmentationClass nor Annotations for these images of"
                f" data.eval_list: {self.data.eval_list} or data.train_list: {self.data.train_list}; choose "
                "lists with ground truth"
            )


def _read_png(path: Path, row: ImageRow, largest: int) -> npt.NDArray[np.uint8]:
    labels = read_label_png(
        path, made=False, check=lambda height, width: check_size(Place(str(path)), row, height, width)
    )
    wrong = np.setdiff1d(labels, [*range(largest + 1), IGNORE])
    if wrong.size:
        raise MaskDistillError(
            f"{path}: label {wrong[0]}, but labels are 0..{largest} and {IGNORE}; correct the file"
        )
    return labels


def voc_objects(
    semantic: npt.NDArray[np.uint8], instances: npt.NDArray[np.uint8], place: Place, losses: Losses
) -> list[TrueObject]:
    """Objects of a SegmentationClass and a SegmentationObject map, uint8 (H, W) each.

    Instances are numbered from 1; 0 and 255 belong to none. An object's class is the one that most of its
    pixels have in ``semantic``, not counting background and 255; without any such pixel it is dropped.
    """
    objects = []
    for number in np.setdiff1d(instances, [0, IGNORE]):
        mask = instances == number
        votes = np.bincount(semantic[mask], minlength=IGNORE + 1)
        votes[[0, IGNORE]] = 0
        losses.expect("annotations")
        if votes.any():
            objects.append(object_of(int(votes.argmax()), mask))
        else:
            losses.drop(
                "annotation", place._replace(entry=f"object {number}"), "SegmentationClass has no class there"
            )
    return objects


def _read_boxes(path: Path, row: ImageRow, losses: Losses) -> list[TrueObject]:
    """Boxes of an XML file, difficult ones included: 1-based inclusive corners become 0-based x, y, w, h."""
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise Place(str(path)).wrong(f"cannot be read ({error.strerror})", "grant access") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Place(str(path)).wrong(f"not a VOC annotation ({error})", "restore the file") from None
    place, size = Place(str(path)), (row.height, row.width)
    if root.find("size") is not None:
        check_size(
            place, row, *(int(_number(root, f"size/{side}", place, 1 << 31)) for side in ("height", "width"))
        )
    objects = []
    for index, item in enumerate(root.iter("object")):
        here = place._replace(entry=f"object[{index}]")
        name = item.findtext("name", "").strip()
        if name not in VOC_CLASSES:
            raise here.wrong(f"unknown class {shown(name)}; the 20 VOC classes are {', '.join(VOC_CLASSES)}")
        xmin, ymin, xmax, ymax = (_number(item, f"bndbox/{corner}", here, reach(size)) for corner in _CORNERS)
        if xmax < xmin or ymax < ymin:
            raise here.wrong(f"bndbox ends at {xmax:g}, {ymax:g}, before it begins at {xmin:g}, {ymin:g}")
        bbox = [xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]
        losses.expect("annotations")
        if nothing := encloses_nothing(bbox, size):
            losses.drop("annotation", here, f"its bndbox {nothing}")
        else:
            objects.append(TrueObject(VOC_CLASSES.index(name) + 1, bbox, bbox[2] * bbox[3], 0, None))
    return objects


def _number(parent: ElementTree.Element, field: str, place: Place, limit: float) -> float:
    """A number out of an XML file, finite and between ``-limit`` and ``limit``."""
    text = parent.findtext(field)
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not -limit <= value <= limit:
        told = "is missing" if text is None else f"is {shown(printable_text(text))}"
        raise place.wrong(
            f"not a VOC annotation: {field} {told}, not a number between {-limit:g} and {limit:g}"
        )
    return value


_CORNERS = ("xmin", "ymin", "xmax", "ymax")
