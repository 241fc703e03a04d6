"""What the stage ``masks`` hands on."""

from typing import NotRequired, TypedDict

from maskdistill.formats.rle import RLE


class MaskRecord(TypedDict):
    """An initial mask, as it stands in ``masks/shard-NNNN.json``.

    Attributes:
        image_id: number of its image in the manifest.
        key: the image's.
        segmentation: at the image's size.
        bbox: x, y, width and height in pixels.
        area: pixels.
        score: 1.0, for the method gives none.
        source_patch: row and column of the patch that the mask began with.
        coverage: share of the image's patches.
        tied: share of the candidate patches that the order of equal CLS affinities chose; with
            ``masks.cls_mass``.
    """

    image_id: int
    key: str
    segmentation: RLE
    bbox: list[float]
    area: int
    score: float
    source_patch: NotRequired[list[int]]
    coverage: NotRequired[float]
    tied: NotRequired[float]
