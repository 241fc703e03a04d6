"""What a reader of corrected objects is."""

import json
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from maskdistill.data.coco_file import CocoImage
from maskdistill.data.coco_masks import Size
from maskdistill.data.truth_types import Losses, Place
from maskdistill.formats.rle import RLE
from maskdistill.runtime.user_files import shown

_BEGINNING = 4096


class NamedMask(NamedTuple):
    """One object: the name of its category, in composed letters (NFC), and its mask at the picture's size."""

    name: str
    mask: RLE


class Corrections(ABC):
    """The objects of a file or folder, by picture.

    Attributes:
        names: of the categories that it knows, in its order.
        pictures: its entries of pictures; a side that the file does not tell is None.
        files: that were read.
        by_key: its pictures are called by their keys, else by their names.
    """

    names: list[str]
    pictures: list[CocoImage]
    files: list[Path]
    by_key: ClassVar[bool] = False

    @abstractmethod
    def objects(self, entries: Sequence[CocoImage], size: Size) -> list[NamedMask]:
        """The objects of one picture; what is no mask goes to the losses.

        Args:
            entries: those of :attr:`pictures` that are about it.
            size: its height and width.

        Raises:
            MaskDistillError: naming file, entry and field of what is wrong.
        """


@dataclass(frozen=True)
class Reader:
    """A format that is read back.

    Attributes:
        name: as ``--format`` of ``maskdistill compare`` calls it.
        takes: what it takes, in one line.
        find: the file or folder to read, given what the user named; None where that is no such format.
        read: reads it; the losses get what is left out.
        as_written: what the format makes of a mask that it cannot hold exactly; None: it holds any.
    """

    name: str
    takes: str
    find: Callable[[Path], Path | None]
    read: Callable[[Path, Losses], Corrections]
    as_written: Callable[[RLE], RLE] | None = None


def named(name: str) -> str:
    """A category's name in one spelling."""
    return unicodedata.normalize("NFC", name.strip())


def find_json(path: Path, names: Iterable[str], bracket: str) -> Path | None:
    """The path itself if it is JSON; in a folder the first of ``names``, or its only JSON file."""
    if path.is_dir():
        there = [path / name for name in names if (path / name).is_file()]
        files = there[:1] or [*path.glob("*.json")]
        return find_json(files[0], (), bracket) if len(files) == 1 else None
    try:
        with open(path, "rb") as stream:
            head = stream.read(_BEGINNING)
    except OSError:
        return None
    text = head.decode(json.detect_encoding(head), "replace").lstrip("\ufeff \t\r\n")
    return path if text.startswith(bracket) else None


def check_sides(entries: Iterable[CocoImage], size: Size) -> None:
    """Refuse entries of another size than their picture's.

    Raises:
        MaskDistillError: naming both.
    """
    for entry in entries:
        height, width = entry.height or size[0], entry.width or size[1]
        if (height, width) != size:
            raise entry.place.wrong(
                f"{shown(entry.file_name)} is {width}x{height} here, the run's picture {size[1]}x{size[0]}",
                "correct objects on the pictures that the run was given",
            )


def text_of(value: object, place: Place, field: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise place.wrong(f"{field} is {shown(value)}, not a text")
    return value
