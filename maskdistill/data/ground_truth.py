"""Ground truth of every kind of source in one form. Only the evaluation side may import this module.

Each reader yields, for the images to score, the objects and, where it is known, the semantic map.
An image without any ground truth is left out. Boxes are ``[x, y, width, height]`` in pixels,
0-based, in the frame of the upright picture.
"""

import logging
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from maskdistill.config import CocoData, DataConfig, ScenesData, VocData
from maskdistill.data.coco_masks import reach
from maskdistill.data.coco_truth import CocoTruth, encloses_nothing
from maskdistill.data.manifest import ImageRow
from maskdistill.data.scenes import CATEGORIES, generate_scene
from maskdistill.data.truth_types import IGNORE as IGNORE
from maskdistill.data.truth_types import ImageTruth as ImageTruth
from maskdistill.data.truth_types import Losses, Place, check_size
from maskdistill.data.truth_types import TrueObject as TrueObject
from maskdistill.formats import rle
from maskdistill.formats.label_png import read_label_png
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.user_files import printable_text, shown

log = logging.getLogger("maskdistill")

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def read_ground_truth(
    data: DataConfig, images: Sequence[ImageRow], losses: Losses
) -> tuple[list[str], Iterator[ImageTruth]]:
    """Ground truth of the images to score.

    Args:
        data: the ``data`` section.
        images: usable images of the manifest: those to score, or for a linear probe those to train on.
        losses: gets what is dropped.

    Returns:
        The names of the categories with ids 1..C, and an iterator over the images in the manifest's
        order. Problems with single images surface while it is walked through.

    Raises:
        MaskDistillError: naming the file and what is wrong: a size that differs from the picture's,
            an unknown category, unreadable XML or PNG, or no ground truth for any image.
    """
    if isinstance(data, ScenesData):
        return list(CATEGORIES), _read_scenes(data, images)
    if isinstance(data, VocData):
        return list(VOC_CLASSES), _read_voc(data, images, losses)
    if isinstance(data, CocoData) and data.annotations is not None:
        return _read_coco(data, images, losses)
    raise MaskDistillError(f"data.kind: {data.kind} without annotations has no ground truth; nothing can be scored")


def _object(category_id: int, mask: npt.NDArray[np.bool_]) -> TrueObject:
    segmentation = rle.encode(mask)
    return TrueObject(category_id, rle.bbox(segmentation), float(rle.area(segmentation)), 0, segmentation)


def _read_scenes(data: ScenesData, images: Sequence[ImageRow]) -> Iterator[ImageTruth]:
    for row in images:
        index = int(row.key.rpartition("-")[2])
        scene = generate_scene(data.seed, index, data.size, data.difficulty)
        check_size(Place(f"generated scene {index}"), row, *scene.semantic.shape)
        objects = [_object(int(label), mask) for label, mask in zip(scene.labels, scene.masks, strict=True)]
        yield ImageTruth(row.image_id, objects, True, scene.semantic)


def _read_coco(data: CocoData, images: Sequence[ImageRow], losses: Losses) -> tuple[list[str], Iterator[ImageTruth]]:
    truth = CocoTruth(data, images, losses)
    return truth.file.names, _with_semantic(truth, data.ignore_border)


def _with_semantic(truth: CocoTruth, ignore_border: int) -> Iterator[ImageTruth]:
    for row, objects in truth.objects():
        has_masks = all(item.segmentation is not None for item in objects)
        semantic = paint_semantic(objects, (row.height, row.width), ignore_border) if has_masks else None
        yield ImageTruth(row.image_id, objects, has_masks, semantic)


def paint_semantic(objects: list[TrueObject], shape: tuple[int, int], ignore_border: int = 0) -> npt.NDArray[np.uint8]:
    """Semantic map of objects with masks, uint8 (H, W).

    Larger masks are painted first, so that smaller ones stay visible. Pixels within ``ignore_border``
    pixels (Euclidean) outside every object, and all pixels of crowds, become 255.
    """
    labels = np.zeros(shape, dtype=np.uint8)
    masks = [(item, rle.decode(item.segmentation)) for item in objects if item.segmentation is not None]
    for item, mask in sorted(masks, key=lambda pair: -int(pair[1].sum())):
        if not item.iscrowd:
            labels[mask] = item.category_id
    if ignore_border and labels.any():
        outside = labels == 0
        labels[outside & (distance_transform_edt(outside) <= ignore_border)] = IGNORE
    for item, mask in masks:
        if item.iscrowd:
            labels[mask] = IGNORE
    return labels


def _read_voc(data: VocData, images: Sequence[ImageRow], losses: Losses) -> Iterator[ImageTruth]:
    root = Path(data.root).expanduser()
    known = 0
    for row in images:
        class_png = root / "SegmentationClass" / f"{row.key}.png"
        object_png = root / "SegmentationObject" / f"{row.key}.png"
        xml = root / "Annotations" / f"{row.key}.xml"
        losses.expect("images")
        semantic = _read_voc_png(class_png, row, len(VOC_CLASSES)) if class_png.is_file() else None
        has_masks = semantic is not None and object_png.is_file()
        if semantic is not None and has_masks:
            objects = voc_objects(semantic, _read_voc_png(object_png, row, IGNORE - 1), Place(str(object_png)), losses)
        elif xml.is_file():
            objects = _read_voc_boxes(xml, row, losses)
        elif semantic is not None:
            objects = []
        else:
            losses.drop("image", Place(str(root), row.key), "neither SegmentationClass nor Annotations has it")
            continue
        known += 1
        yield ImageTruth(row.image_id, objects, has_masks, semantic)
    if not known:
        raise MaskDistillError(
            f"data.root: {root} has neither SegmentationClass nor Annotations for these images of"
            f" data.eval_list: {data.eval_list} or data.train_list: {data.train_list}; choose lists with ground truth"
        )


def _read_voc_png(path: Path, row: ImageRow, largest: int) -> npt.NDArray[np.uint8]:
    labels = read_label_png(
        path, made=False, check=lambda height, width: check_size(Place(str(path)), row, height, width)
    )
    wrong = np.setdiff1d(labels, [*range(largest + 1), IGNORE])
    if wrong.size:
        raise MaskDistillError(f"{path}: label {wrong[0]}, but labels are 0..{largest} and {IGNORE}; correct the file")
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
            objects.append(_object(int(votes.argmax()), mask))
        else:
            losses.drop("annotation", place._replace(entry=f"object {number}"), "SegmentationClass has no class there")
    return objects


def _read_voc_boxes(path: Path, row: ImageRow, losses: Losses) -> list[TrueObject]:
    """Boxes of an XML file, difficult ones included: 1-based inclusive corners become 0-based x, y, w, h."""
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise Place(str(path)).wrong(f"cannot be read ({error.strerror})", "grant access") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Place(str(path)).wrong(f"not a VOC annotation ({error})", "restore the file") from None
    place, size = Place(str(path)), (row.height, row.width)
    if root.find("size") is not None:
        check_size(place, row, *(int(_number(root, f"size/{side}", place, 1 << 31)) for side in ("height", "width")))
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
        raise place.wrong(f"not a VOC annotation: {field} {told}, not a number between {-limit:g} and {limit:g}")
    return value


_CORNERS = ("xmin", "ymin", "xmax", "ymax")
