"""An object in the form of COCO's annotations, for the run's own file and for exported ones."""

from typing import Literal, TypedDict

from maskdistill.formats.rle import RLE


class CocoObject(TypedDict):
    """A mask with its category.

    Attributes:
        id: from 1, without gaps.
        image_id: number of its image.
        category_id: 1 + cluster.
        bbox: tight box: x, y, width and height in pixels.
        area: pixels.
        segmentation: at the image's size.
        iscrowd: always 0: one object.
        score: 0 to 1.
    """

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: int
    segmentation: RLE
    iscrowd: Literal[0]
    score: float
