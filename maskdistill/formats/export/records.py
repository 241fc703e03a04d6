"""What every format is written from: a picture with its objects."""

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
        name: of the category; several may share one.
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
    """A picture that was looked at, with or without objects.

    Attributes:
        image_id: counted from 1, ascending.
        key: unique among the pictures even where ``.png`` or ``.jpg`` is added: names files that are made of
            it.
        file: its name with its ending, relative to the folder of photographs, with ``/``.
        source: the file itself, as an absolute path.
        height, width: of the upright picture, in pixels.
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
    """What a format knows beside the pictures.

    Attributes:
        names: category 1..K -> name.
        place: puts a picture under a name in the folder that is written: a link or a copy, as the user
            wishes.
        simplify: most pixels by which an outline may leave the mask's; 0: outlines fill to exactly the mask.
    """

    names: Mapping[int, str]
    place: Callable[[Picture, Path], None]
    simplify: float = 0.0
