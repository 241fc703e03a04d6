"""The input of every format: a picture with its objects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from maskdistill.formats import rle
from maskdistill.formats.rle import RLE


@dataclass(frozen=True)
class ObjectRecord:
    """One object of a picture.

    Attributes:
        category_id: 1..K.
        name: of the category; categories may share a name.
        score: the detector's confidence, in [0, 1].
        mask: run lengths at the picture's size, with at least one pixel.
    """

    category_id: int
    name: str
    score: float
    mask: RLE

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The mask's own box: x, y, width, height in pixels; (0, 0) is the upper left corner of the
        picture.
        """
        x, y, width, height = rle.bbox(self.mask)
        return x, y, width, height

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return rle.area(self.mask)


@dataclass(frozen=True)
class Picture:
    """A picture that was processed, with or without objects.

    Attributes:
        image_id: from 1, ascending.
        key: name for files made from it; unique among the pictures, also after ``.png`` or ``.jpg`` is added.
        file: its path relative to the folder of photographs, with ``/`` and with its extension.
        source: absolute path of the file.
        height, width: in pixels, of the upright picture.
        objects: the most confident first.
    """

    image_id: int
    key: str
    file: str
    source: Path
    height: int
    width: int
    objects: tuple[ObjectRecord, ...]

    @property
    def ending(self) -> str:
        """``.jpg`` of ``a.jpg``."""
        return PurePosixPath(self.file).suffix


@dataclass(frozen=True)
class Context:
    """What a format knows in addition to the pictures.

    Attributes:
        names: category 1..K -> name.
        place: puts a picture under a name into the folder being written, as a link or a copy as the user
            wishes.
        simplify: pixels by which an outline may deviate from the mask; 0: filling it gives exactly the mask.
    """

    names: Mapping[int, str]
    place: Callable[[Picture, Path], None]
    simplify: float = 0.0
