"""Pictures of a run in a file of corrected objects, and the two sides of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from maskdistill.data.coco_file import CocoImage, plain_name
from maskdistill.data.coco_match import match_names
from maskdistill.data.corrected.base import Corrections, NamedMask, check_sides, named
from maskdistill.data.manifest import ImageRow
from maskdistill.data.picture_refs import shown_name
from maskdistill.formats.export.records import ObjectRecord, Picture
from maskdistill.product.objects import relative_name

CERTAIN = 1.0
"""Score of an object that a person corrected."""


def find_pictures(
    corrections: Corrections, rows: Iterable[ImageRow]
) -> tuple[dict[str, list[CocoImage]], list[CocoImage]]:
    """Entries of each picture, by its key, and those that are about no picture of the run.

    A name may have anything before it, such as the address of a bucket; see also
    :func:`maskdistill.data.coco_match.match_names`.
    """
    paths: dict[str, ImageRow] = {}
    for row in rows:
        if corrections.by_key:
            paths[row.key] = row
        else:
            paths.setdefault(f"{row.key}{PurePosixPath(shown_name(row.file)).suffix}", row)
            paths[relative_name(row)] = row

    def plain(name: str) -> str:
        path = plain_name(name)
        parts = path.split("/")
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((end for end in ends if end in paths), path)

    return match_names(corrections.pictures, paths, plain)


def sides(
    pictures: Iterable[Picture], corrections: Corrections, found: Mapping[str, Sequence[CocoImage]]
) -> Iterator[tuple[Picture, list[NamedMask], list[NamedMask]]]:
    """Each picture that the file knows, its objects in the run, and the corrected ones.

    Raises:
        MaskDistillError: naming file, entry and field of what is wrong, such as another size than the
            picture's.
    """
    for picture in pictures:
        if entries := found.get(picture.key):
            size = (picture.height, picture.width)
            check_sides(entries, size)
            own = [NamedMask(named(item.name), item.mask) for item in picture.objects]
            yield picture, own, corrections.objects(entries, size)


def as_picture(picture: Picture, corrected: Sequence[NamedMask], numbers: Mapping[str, int]) -> Picture:
    """A picture with its corrected objects in the place of its own.

    Args:
        numbers: name -> id of its category.
    """
    objects = tuple(ObjectRecord(numbers[item.name], item.name, CERTAIN, item.mask) for item in corrected)
    return Picture(
        picture.image_id, picture.key, picture.file, picture.source, picture.height, picture.width, objects
    )
