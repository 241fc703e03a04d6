"""What the stage ``annotations`` hands on."""

from typing import TypedDict

from maskdistill.formats.coco import CocoObject


class Category(TypedDict):
    """A category: 1 + cluster, and its name."""

    id: int
    name: str


class Annotation(CocoObject):
    """A mask and its cluster, as it stands in ``annotations.json``; the score is 1.0."""
