"""What was dropped of the ground truth, as it stands in ``dropped.json``."""

from typing import TypedDict


class Dropped(TypedDict):
    """One thing: its kind, the entry that names it, and why."""

    kind: str
    entry: str
    reason: str


class TruthCounts(TypedDict):
    """Images with ground truth, and how many of them have masks and semantic maps."""

    images: int
    has_masks: int
    has_semantic: int


class DroppedRecord(TypedDict):
    """``dropped.json``: counts by kind, the things themselves, and of how many images."""

    counts: dict[str, int]
    dropped: list[Dropped]
    of: TruthCounts
