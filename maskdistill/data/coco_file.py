"""A COCO instances file, checked entry by entry before anything uses it.

What has one meaning only is read: ids by their value whatever their JSON type, missing sizes and flags.
Everything else is an error that names the file, the entry and the field.
"""

import logging
import posixpath
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from maskdistill.data.truth_types import IGNORE, Losses, Place
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.user_files import printable_text, read_user_json, shown

log = logging.getLogger("maskdistill")

PARTS = ("images", "annotations", "categories")
Id = int | str
"""Numbers are numbers, also where they are stored as text (``"7"``) or as fractions (``7.0``)."""
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,400}(\.0*)?\s*", re.ASCII)
_LONGEST_SIDE = 1 << 31
_LONGEST_NAME = 200


class CocoImage(NamedTuple):
    """An entry of ``images``; a side is None where the file does not tell it."""

    place: Place
    id: Id
    file_name: str
    height: int | None
    width: int | None


class CocoAnnotation(NamedTuple):
    """An entry of ``annotations`` with known ids; checking its geometry needs the image's size."""

    place: Place
    id: Id | None
    image_id: Id
    category_id: int
    values: dict[str, Any]


class CocoFile(NamedTuple):
    """A checked file.

    Attributes:
        source: its path as it was given.
        labels: names of the classes 1..C by their ids, as they stand there; several may share one.
        images: all entries, in their order.
        annotations: of each image id, in their order.
        with_masks: whether any annotation has a mask.
    """

    source: str
    labels: dict[Id, str]
    images: list[CocoImage]
    annotations: dict[Id, list[CocoAnnotation]]
    with_masks: bool

    @property
    def names(self) -> list[str]:
        """Names of the classes 1..C, no two equal and none ``background``."""
        return _unlike(self.labels, self.source)


def read_coco(source: str, losses: Losses) -> CocoFile:
    """Read a COCO instances file.

    Args:
        losses: gets the annotations of images that the file does not know.

    Raises:
        MaskDistillError: naming file, entry and field of what is wrong.
    """
    content = _parts(source)
    labels, numbers = _categories(source, content["categories"])
    images = [_image(place, values) for place, values in _entries(source, "images", content["images"])]
    by_image = _annotations(source, content["annotations"], {image.id for image in images}, numbers, losses)
    _refuse_shared_ids(images)
    with_masks = any(item.values.get("segmentation") for group in by_image.values() for item in group)
    return CocoFile(source, labels, images, by_image, with_masks)


def read_class_names(source: str) -> list[str]:
    """Names of the classes 1..C of a COCO instances file; raises as :func:`read_coco`."""
    return _unlike(_categories(source, _parts(source)["categories"])[0], source)


def _parts(source: str) -> dict[str, list[Any]]:
    """The lists of a COCO instances file, their entries unchecked."""
    content = read_user_json(Path(source).expanduser())
    if not isinstance(content, dict) or not content.keys() >= set(PARTS):
        raise MaskDistillError(
            f"{source}: not a COCO instances JSON (needs images, annotations and categories)"
        )
    for part in PARTS:
        if not isinstance(content[part], list):
            raise Place(source).wrong(f"{part} is {shown(content[part])}, not a list")
    return content


def _entries(source: str, part: str, entries: list[Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    for index, values in enumerate(entries):
        name = f"{part}[{index}]"
        if not isinstance(values, dict):
            raise Place(source, name).wrong(f"is {shown(values)}, not an object with fields")
        yield Place(source, f"{name} (id {shown(values['id'])})" if "id" in values else name), values


def identifier(value: Any, place: Place, field: str) -> Id:
    """An id by its value: 7, 7.0 and "7" are one; other text stands for itself."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip():
        return int(value.partition(".")[0]) if _WHOLE.fullmatch(value) else value
    raise place.wrong(f"{field} is {shown(value)}, neither a number nor a text")


def plain_name(name: str) -> str:
    """A picture's name in one spelling: ``/`` between folders, no ``./``, composed letters (NFC)."""
    return unicodedata.normalize("NFC", posixpath.normpath(name.strip().replace("\\", "/")))


def whole(value: Any, place: Place, field: str, low: int, high: int) -> int:
    """A whole number in ``low..high``, also as text or as a fraction such as 7.0."""
    number = (
        None if isinstance(value, bool) else identifier(value, place, field) if value is not None else None
    )
    if isinstance(number, int) and low <= number <= high:
        return number
    raise place.wrong(f"{field} is {shown(value)}, not a whole number from {low} to {high}")


def real(value: Any, place: Place, field: str, limit: float) -> float:
    """A finite number between ``-limit`` and ``limit``."""
    if isinstance(value, int | float) and not isinstance(value, bool) and -limit <= value <= limit:
        return float(value)
    raise place.wrong(f"{field} is {shown(value)}, not a number between {-limit:g} and {limit:g}")


def area_of(values: dict[str, Any], place: Place) -> float | None:
    """The field ``area``, finite and at least 0; None where it is missing."""
    value = values.get("area")
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _LONGEST_SIDE**2:
        raise place.wrong(f"area is {shown(value)}, not a number of pixels")
    return float(value)


def crowd_of(values: dict[str, Any], place: Place) -> int:
    """The field ``iscrowd``, 0 or 1; 0 where it is missing."""
    value = values.get("iscrowd")
    if value is None:
        return 0
    return int(value) if isinstance(value, bool) else whole(value, place, "iscrowd", 0, 1)


def _image(place: Place, values: dict[str, Any]) -> CocoImage:
    name = values.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise place.wrong(f"file_name is {shown(name)}, not the name of a picture")
    sides = [
        None if values.get(side) is None else whole(values[side], place, side, 1, _LONGEST_SIDE)
        for side in ("height", "width")
    ]
    return CocoImage(place, identifier(values.get("id"), place, "id"), name, sides[0], sides[1])


def _refuse_shared_ids(images: list[CocoImage]) -> None:
    first: dict[Id, CocoImage] = {}
    for image in images:
        other = first.setdefault(image.id, image)
        if plain_name(other.file_name) != plain_name(image.file_name):
            raise image.place.wrong(
                f"id is that of {other.place.entry} too, and file_name differs: {shown(other.file_name)} and"
                f" {shown(image.file_name)}",
                "give each image an id of its own",
            )


def _categories(source: str, entries: list[Any]) -> tuple[dict[Id, str], dict[Id, int]]:
    """Names of the classes 1..C by their ids, in the order of these, and the class of each id."""
    named: dict[Id, str] = {}
    for place, values in _entries(source, "categories", entries):
        number = identifier(values.get("id"), place, "id")
        name = values.get("name")
        if isinstance(name, bool) or not isinstance(name, str | int | float) or not str(name).strip():
            raise place.wrong(f"name is {shown(name)}, not a text")
        text = printable_text(str(name))
        if len(text) > _LONGEST_NAME:
            raise place.wrong(f"name has {len(text)} characters", f"shorten it to {_LONGEST_NAME}")
        if named.setdefault(number, text) != text:
            raise place.wrong(
                f"id is that of the category {shown(named[number])} too",
                "give each category an id of its own",
            )
    if not 1 <= len(named) < IGNORE:
        few = f"{len(named)} categories, but label maps hold at most {IGNORE - 1}; merge some"
        raise MaskDistillError(
            f"{source}: {few if named else 'categories is empty; name what the objects are'}"
        )
    order = sorted(named, key=lambda number: (isinstance(number, str), number))
    return {number: named[number] for number in order}, {
        number: label for label, number in enumerate(order, start=1)
    }


def _unlike(named: dict[Id, str], source: str) -> list[str]:
    """Names of which no two are equal and none is that of the true background: scores are listed by them."""
    taken = {"background"}
    names = []
    for number, name in named.items():
        unlike = name
        while unlike in taken:
            unlike += f" (category {printable_text(str(number))})"
        if unlike != name:
            log.warning("%s: categories: the name %r is taken; %r stands for it", source, name, unlike)
        taken.add(unlike)
        names.append(unlike)
    return names


def _annotations(
    source: str, entries: list[Any], image_ids: set[Id], numbers: dict[Id, int], losses: Losses
) -> dict[Id, list[CocoAnnotation]]:
    found: dict[Id, list[CocoAnnotation]] = {}
    for place, values in _entries(source, "annotations", entries):
        image_id = identifier(values.get("image_id"), place, "image_id")
        category = identifier(values.get("category_id"), place, "category_id")
        if category not in numbers:
            raise place.wrong(
                f"unknown category_id {shown(values['category_id'])}", "add the category or correct the id"
            )
        if image_id not in image_ids:
            losses.expect("annotations")
            losses.drop("annotation", place, f"image_id {shown(values['image_id'])} is no entry of images")
            continue
        number = values.get("id")
        own = None if number is None else identifier(number, place, "id")
        found.setdefault(image_id, []).append(CocoAnnotation(place, own, image_id, numbers[category], values))
    return found
