"""Section ``pseudo_labels`` of the configuration."""

from typing import Literal

from pydantic import Field, model_validator

from maskdistill.config.types import Fraction, Section

LabelType = Literal["mask", "bbox", "grabcut"]
"""Which region of a candidate is painted [P Table S1]."""
Compare = Literal["gt", "ge"]
"""``gt``: a score passes if it is above the threshold, as in the paper; ``ge``: also if it equals it."""


class PseudoLabelsConfig(Section):
    """Confident candidates become one semantic map per image [P §3.3, §4.1]."""

    tau: Fraction = Field(0.9, description="a candidate is kept when its score exceeds tau")
    unsure: Fraction | None = Field(
        None,
        description="a candidate whose score exceeds this but not tau is labelled 255 where overlap would "
        "have it painted: the segmenter learns neither an object nor background there; null: background, as "
        "in the paper",
    )
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

    @model_validator(mode="after")
    def _better_over_worse(self) -> "PseudoLabelsConfig":
        if self.unsure is not None and self.overlap == "legacy":
            raise ValueError(
                "overlap legacy paints worse candidates over better ones, and unsure would hide these; set "
                "unsure to null or overlap to drop"
            )
        return self
