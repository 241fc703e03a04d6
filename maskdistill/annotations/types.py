"""What the stages ``annotations`` and ``self_annotations`` hand on, and what they are made of."""

from typing import TypedDict

from maskdistill.formats.coco import CocoObject
from maskdistill.formats.rle import RLE


class Category(TypedDict):
    """A category: 1 + cluster, and its name."""

    id: int
    name: str


class Annotation(CocoObject):
    """A mask and its category, as it stands in ``annotations.json``.

    The score is 1.0, and of what a detector found in a round of self-training the detector's.
    """


class ScoredObject(TypedDict):
    """What of a detector's candidate, and of an annotation, the next round of self-training looks at.

    Attributes:
        image_id: number of its image.
        category_id: 1 + cluster.
        score: 0 to 1.
        segmentation: at the image's size.
    """

    image_id: int
    category_id: int
    score: float
    segmentation: RLE
