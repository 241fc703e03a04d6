"""Ground truth of every kind of source in one form. Only the evaluation side may import this module.

Each reader yields, for the images to score, the objects and, where it is known, the semantic map.
An image without any ground truth is left out. Boxes are ``[x, y, width, height]`` in pixels,
0-based, in the frame of the upright picture.
"""

import logging
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from scipy.ndimage import distance_transform_edt

from maskdistill import rle
from maskdistill.config_data import CocoData, DataConfig, ScenesData, VocData
from maskdistill.data.manifest import ImageRow
from maskdistill.data.scenes import CATEGORIES, generate_scene
from maskdistill.palette import read_given_label_png
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_given_json

log = logging.getLogger("maskdistill")

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
IGNORE = 255


class TrueObject(NamedTuple):
    """One object. ``segmentation`` is an RLE at the image's size, or None where only the box is known."""

    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int
    segmentation: dict[str, Any] | None


class ImageTruth(NamedTuple):
    """Ground truth of one image.

    Attributes:
        image_id: the manifest's id.
        objects: its objects, possibly none.
        has_masks: every object that must be found has a mask.
        semantic: uint8 (H, W), 0 background, category ids, 255 ignore; None where unknown.
    """

    image_id: int
    objects: list[TrueObject]
    has_masks: bool
    semantic: npt.NDArray[np.uint8] | None


def read_ground_truth(data: DataConfig, images: Sequence[ImageRow]) -> tuple[list[str], Iterator[ImageTruth]]:
    """Ground truth of the images to score.

    Args:
        data: the ``data`` section.
        images: usable images of the manifest: those to score, or for a linear probe those to train on.

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
        return list(VOC_CLASSES), _read_voc(data, images)
    if isinstance(data, CocoData) and data.annotations is not None:
        return _read_coco(data, data.annotations, images)
    raise MaskDistillError(f"data.kind: {data.kind} without annotations has no ground truth; nothing can be scored")


def _object(category_id: int, mask: npt.NDArray[np.bool_]) -> TrueObject:
    segmentation = rle.encode(mask)
    return TrueObject(category_id, rle.bbox(segmentation), float(rle.area(segmentation)), 0, segmentation)


def _read_scenes(data: ScenesData, images: Sequence[ImageRow]) -> Iterator[ImageTruth]:
    for row in images:
        index = int(row.key.rpartition("-")[2])
        scene = generate_scene(data.seed, index, data.size, data.difficulty)
        _check_size(f"generated scene {index}", row, *scene.semantic.shape)
        objects = [_object(int(label), mask) for label, mask in zip(scene.labels, scene.masks, strict=True)]
        yield ImageTruth(row.image_id, objects, True, scene.semantic)


def _check_size(source: str, row: ImageRow, height: int, width: int) -> None:
    if (height, width) != (row.height, row.width):
        raise MaskDistillError(
            f"{source}: ground truth of {row.key!r} is {width}x{height}, the upright picture {row.width}x{row.height};"
            " give the ground truth that belongs to this picture, or remove the image"
        )


def _read_coco(data: CocoData, source: str, images: Sequence[ImageRow]) -> tuple[list[str], Iterator[ImageTruth]]:
    content = read_given_json(Path(source).expanduser())
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        raise MaskDistillError(f"{source}: not a COCO instances JSON (needs images, annotations and categories)")
    categories = sorted(content["categories"], key=lambda category: int(category["id"]))
    if len(categories) > IGNORE - 1:
        raise MaskDistillError(
            f"{source}: {len(categories)} categories, but label maps hold at most {IGNORE - 1}; merge some"
        )
    new_ids = {int(category["id"]): i for i, category in enumerate(categories, start=1)}
    return [str(category["name"]) for category in categories], _walk_coco(data, source, content, new_ids, images)


def _walk_coco(
    data: CocoData, source: str, content: dict[str, Any], new_ids: dict[int, int], images: Sequence[ImageRow]
) -> Iterator[ImageTruth]:
    entries = _match_coco_images(data, content, images)
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        if annotation["category_id"] not in new_ids:
            raise MaskDistillError(
                f"{source}: annotation {annotation.get('id')} has the unknown category_id {annotation['category_id']};"
                " add the category or correct the id"
            )
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    for row in images:
        entry = entries.get(row.key)
        if entry is None:
            continue
        height, width = int(entry["height"]), int(entry["width"])
        _check_size(source, row, height, width)
        objects = [
            _coco_object(source, annotation, new_ids[annotation["category_id"]], height, width)
            for annotation in by_image.get(entry["id"], [])
        ]
        has_masks = all(item.segmentation is not None for item in objects)
        semantic = paint_semantic(objects, (height, width), data.ignore_border) if has_masks else None
        yield ImageTruth(row.image_id, objects, has_masks, semantic)


def _match_coco_images(
    data: CocoData, content: dict[str, Any], images: Sequence[ImageRow]
) -> dict[str, dict[str, Any]]:
    """The JSON's entry of each key: by path relative to ``images``, else by a file name that is unique in both."""
    source = str(data.annotations)
    root = Path(data.images).expanduser()
    by_path = {str(entry["file_name"]): entry for entry in content["images"]}
    by_name = {Path(name).name: entry for name, entry in by_path.items()}
    uses = Counter(Path(name).name for name in by_path)
    copies = Counter(Path(row.file).name for row in images)
    found: dict[str, dict[str, Any]] = {}
    for row in images:
        name = Path(row.file).name
        entry = by_path.get(Path(os.path.relpath(row.file, root)).as_posix())
        if entry is None and uses[name] == copies[name] == 1:
            entry = by_name[name]
        if entry is not None:
            found[row.key] = entry
    if not found:
        raise MaskDistillError(f"{source}: none of its images is in data.images; give the JSON of these pictures")
    if len(found) < len(images):
        log.warning("%s: %d images have no entry and are not scored", source, len(images) - len(found))
    absent = len(content["images"]) - len({entry["id"] for entry in found.values()})
    if absent:
        log.warning("%s: %d of its images are not among the usable pictures and are ignored", source, absent)
    return found


def _coco_object(source: str, annotation: dict[str, Any], category_id: int, height: int, width: int) -> TrueObject:
    """One annotation; polygons and uncompressed or compressed RLE become RLE at the image's size."""
    segmentation = annotation.get("segmentation")
    encoded: dict[str, Any] | None = None
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if polygons:
            encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    elif isinstance(segmentation, dict):
        if list(segmentation["size"]) != [height, width]:
            raise MaskDistillError(
                f"{source}: annotation {annotation.get('id')} has an RLE of size {segmentation['size']},"
                f" its image is [{height}, {width}]; correct it"
            )
        raw = isinstance(segmentation["counts"], list)
        encoded = coco_mask.frPyObjects(segmentation, height, width) if raw else dict(segmentation)
    if encoded is not None:
        try:
            encoded = rle.encode(rle.decode(encoded))
        except MaskDistillError:
            raise MaskDistillError(
                f"{source}: the RLE of annotation {annotation.get('id')} does not cover its image; correct it"
            ) from None
    bbox = annotation.get("bbox") or (rle.bbox(encoded) if encoded else None)
    if not bbox:
        raise MaskDistillError(f"{source}: annotation {annotation.get('id')} has neither segmentation nor bbox")
    area = annotation.get("area", rle.area(encoded) if encoded else bbox[2] * bbox[3])
    crowd = int(annotation.get("iscrowd", 0))
    return TrueObject(category_id, [float(value) for value in bbox], float(area), crowd, encoded)


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


def _read_voc(data: VocData, images: Sequence[ImageRow]) -> Iterator[ImageTruth]:
    root = Path(data.root).expanduser()
    known = 0
    for row in images:
        class_png = root / "SegmentationClass" / f"{row.key}.png"
        object_png = root / "SegmentationObject" / f"{row.key}.png"
        xml = root / "Annotations" / f"{row.key}.xml"
        semantic = _read_voc_png(class_png, row, len(VOC_CLASSES)) if class_png.is_file() else None
        has_masks = semantic is not None and object_png.is_file()
        if semantic is not None and has_masks:
            objects = voc_objects(semantic, _read_voc_png(object_png, row, IGNORE - 1))
        elif xml.is_file():
            objects = _read_voc_boxes(xml, row)
        elif semantic is not None:
            objects = []
        else:
            continue
        known += 1
        yield ImageTruth(row.image_id, objects, has_masks, semantic)
    if not known:
        raise MaskDistillError(
            f"data.root: {root} has neither SegmentationClass nor Annotations for these images of"
            f" data.eval_list: {data.eval_list} or data.train_list: {data.train_list}; choose lists with ground truth"
        )
    if known < len(images):
        log.warning("%s: %d images have no ground truth and are not scored", root, len(images) - known)


def _read_voc_png(path: Path, row: ImageRow, largest: int) -> npt.NDArray[np.uint8]:
    labels = read_given_label_png(path)
    _check_size(str(path), row, *labels.shape)
    wrong = np.setdiff1d(labels, [*range(largest + 1), IGNORE])
    if wrong.size:
        raise MaskDistillError(f"{path}: label {wrong[0]}, but labels are 0..{largest} and {IGNORE}; correct the file")
    return labels


def voc_objects(semantic: npt.NDArray[np.uint8], instances: npt.NDArray[np.uint8]) -> list[TrueObject]:
    """Objects of a SegmentationClass and a SegmentationObject map, uint8 (H, W) each.

    Instances are numbered from 1; 0 and 255 belong to none. An object's class is the one that most of its
    pixels have in ``semantic``, not counting background and 255; without any such pixel it is left out.
    """
    objects = []
    for number in np.setdiff1d(instances, [0, IGNORE]):
        mask = instances == number
        votes = np.bincount(semantic[mask], minlength=IGNORE + 1)
        votes[[0, IGNORE]] = 0
        if votes.any():
            objects.append(_object(int(votes.argmax()), mask))
    return objects


def _read_voc_boxes(path: Path, row: ImageRow) -> list[TrueObject]:
    """Boxes of an XML file, difficult ones included: 1-based inclusive corners become 0-based x, y, w, h."""
    try:
        root = ElementTree.parse(path).getroot()
        size = [int(root.findtext(f"size/{side}", "")) for side in ("height", "width")]
        parsed = [
            (item.findtext("name", "").strip(), [float(item.findtext(f"bndbox/{c}", "")) for c in _CORNERS])
            for item in root.iter("object")
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise MaskDistillError(f"{path}: not a VOC annotation ({error}); restore the file") from None
    _check_size(str(path), row, *size)
    objects = []
    for name, (xmin, ymin, xmax, ymax) in parsed:
        if name not in VOC_CLASSES:
            raise MaskDistillError(f"{path}: unknown class {name!r}; the 20 VOC classes are {', '.join(VOC_CLASSES)}")
        bbox = [xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]
        objects.append(TrueObject(VOC_CLASSES.index(name) + 1, bbox, bbox[2] * bbox[3], 0, None))
    return objects


_CORNERS = ("xmin", "ymin", "xmax", "ymax")
