"""Section ``pseudo_labels`` of the configuration."""

from typing import Literal

from pydantic import Field

from maskdistill.config.types import Fraction, Section

LabelType = Literal["mask", "bbox", "grabcut"]
"""What is painted of a candidate [P Table S1]."""
Compare = Literal["gt", "ge"]
"""``gt``: a score passes above the threshold, as the paper says; ``ge``: also where it equals it."""


class PseudoLabelsConfig(Section):
    """Confident candidates become one semantic map an image [P §3.3, §4.1]."""

    tau: Fraction = Field(0.9, description="a candidate is kept when its score exceeds tau")
    compare: Compare = Field("gt", description="score > tau or score >= tau")
    overlap: Literal["drop", "pixel", "legacy"] = Field(
        "drop",
        description="drop: skip a candidate that overlaps a better one; pixel: paint what is free of it; "
        "legacy: the released script's check, under which worse candidates are painted over better ones",
    )
    type: LabelType = Field(
        "mask",
        description="what is painted of a candidate: mask, bbox: its box, grabcut: OpenCV's GrabCut in its "
        "box",
    )
