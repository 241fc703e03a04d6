"""What the stage ``annotations`` hands on."""

from typing import Literal, TypedDict

from maskdistill.formats.rle import RLE


class Category(TypedDict):
    """A category: 1 + cluster, and its name."""

    id: int
    name: str


class Annotation(TypedDict):
    """A mask and its cluster in COCO's form, as it stands in ``annotations.json``.

    Attributes:
        id: from 1, without gaps.
        image_id: number of its image in the manifest.
        category_id: 1 + cluster.
        bbox: tight box: x, y, width and height in pixels.
        area: pixels.
        segmentation: at the image's size.
        iscrowd: 0: it is one object.
        score: 1.0.
    """

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: int
    segmentation: RLE
    iscrowd: Literal[0]
    score: float
