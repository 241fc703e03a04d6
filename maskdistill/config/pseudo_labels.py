"""Section ``pseudo_labels`` of the configuration."""

from typing import Literal

from pydantic import Field

from maskdistill.config.types import Fraction, Section

LabelType = Literal["mask", "bbox", "grabcut"]
"""Which region of a candidate is painted [P Table S1]."""
Compare = Literal["gt", "ge"]
"""``gt``: a score passes if it is above the threshold, as in the paper; ``ge``: also if it equals it."""


class PseudoLabelsConfig(Section):
    """Confident candidates become one semantic map per image [P §3.3, §4.1]."""

    tau: Fraction = Field(0.9, description="a candidate is kept when its score exceeds tau")
    compare: Compare = Field("gt", description="score > tau or score >= tau")
    overlap: Literal["drop", "pixel", "legacy"] = Field(
        "drop",
        description="drop: skip a candidate that overlaps a better one; pixel: paint only its free pixels; "
        "legacy: the released script's check, which paints worse candidates over better ones",
    )
    type: LabelType = Field(
        "mask",
        description="which region of a candidate is painted; mask: its mask, bbox: its box, grabcut: what "
        "OpenCV's GrabCut finds in its box",
    )
