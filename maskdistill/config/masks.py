"""Sections ``masks`` and ``baselines`` of the configuration: rules that make masks of features."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from maskdistill.config.types import NUMBER, Distinct, Fraction, Section, Share

MASK_BASELINE = r"^(lost-[1-9][0-9]*|attention-0\.[0-9]*[1-9](-largest)?)$"
"""Names of mask baselines, and of their folders below results/<run>/."""
BaselineName = Annotated[str, Field(pattern=MASK_BASELINE)]
Masks = Annotated[int, Field(ge=1, le=100), NUMBER]
Heads = Annotated[int, Field(ge=1, le=1024), NUMBER]


class AffinityConfig(Section):
    """The affinity graph between patches [P §3.2 Eq. 1]."""

    center: bool = Field(False, description="subtract the image's mean key first")


class FurtherMasksConfig(Section):
    """Where the search for further masks of an image stops (maskdistill.masks); for masks.max_masks above 1."""

    min_area: Fraction = Field(0.01, description="stop at a further mask that covers a smaller share of the patches")
    max_area: Fraction = Field(0.5, description="stop at a further mask that covers a larger share of the patches")
    max_overlap: Fraction = Field(
        0.5, description="stop where earlier masks cover a larger share of a further one, before it is cut"
    )

    @model_validator(mode="after")
    def _some_area_between(self) -> "FurtherMasksConfig":
        if self.min_area > self.max_area:
            raise ValueError(f"min_area {self.min_area:g} is above max_area {self.max_area:g}: no mask would be taken")
        return self


class MasksConfig(Section):
    """Object masks from the affinity graph, one an image in the paper [P §3.2 Eq. 1-2]."""

    topk: Share = Field(0.4, description="share of patches taken as candidates [P §4.1]")
    cls_heads: Heads | None = Field(None, description="use the first n heads for the CLS affinity; null: all")
    cls_mass: Share | None = Field(
        None,
        description="keep this share of the CLS affinity's sum; the rest counts as 0, in the order of torch.topk; "
        "null: off",
    )
    component: Literal["source_4conn", "all"] = Field("source_4conn", description="keep the source's component")
    resize_mask: Literal["nearest", "bicubic_nonzero"] = Field("nearest", description="resampling to full size")
    refine: Literal["none", "grabcut"] = Field(
        "none",
        description="none: outlines of patches; grabcut: OpenCV's GrabCut started from each mask seeks the object's "
        "own, beyond the paper",
    )
    affinity: AffinityConfig = AffinityConfig()
    max_masks: Masks = Field(1, description="most masks an image; above 1 beyond the paper")
    further: FurtherMasksConfig = FurtherMasksConfig()


class BaselinesConfig(Section):
    """Simpler mask rules on the same features, scored beside the main masks [P Table 3, §A.4]."""

    masks: Distinct[BaselineName] = Field(
        [],
        description="lost-K: LOST with its K patches of lowest degree; attention-M: the patches that hold the share M "
        "of DINO's CLS attention, attention-M-largest: their largest component",
    )
