"""What the detector hands on."""

from typing import TypedDict

from maskdistill.formats.rle import RLE


class Found(TypedDict):
    """An object that the detector found in an image.

    Attributes:
        category_id: 1..K, 1 + cluster.
        score: confidence in [0, 1], 6 decimals.
        bbox: x, y, width and height in pixels, 3 decimals.
        segmentation: at the image's size, never empty.
    """

    category_id: int
    score: float
    bbox: list[float]
    segmentation: RLE


class Candidate(Found):
    """A candidate in ``candidates/shard-NNNN.json``, with its image's number in the manifest."""

    image_id: int
