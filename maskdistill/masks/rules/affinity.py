"""The paper's rule [P §3.2] by a name that holds its settings, so that several of them can stand side by
side.
"""

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from maskdistill.config.masks import AffinityConfig, FurtherMasksConfig, Masks, MasksConfig
from maskdistill.config.types import Fraction, Section, Share
from maskdistill.masks.patches import PatchMask
from maskdistill.masks.registry import mask_rule
from maskdistill.masks.rules.maskdistill import distilled_masks

if TYPE_CHECKING:
    from maskdistill.features.store import ImageFeatures


class AffinityParams(Section):
    """Settings of the paper's rule, and of its search for further masks."""

    topk: Share = Field(0.4, description="share of patches taken as candidates")
    masks: Masks = Field(1, description="masks per image, at most; the paper has one")
    center: bool = Field(False, description="subtract the image's mean key first")
    min_area: Fraction = Field(
        0.01, description="stop at a further mask that covers a smaller share of the patches"
    )
    max_area: Fraction = Field(
        0.5, description="stop at a further mask that covers a larger share of the patches"
    )
    max_overlap: Fraction = Field(
        0.5, description="stop at a further mask of which earlier masks cover a larger share"
    )

    @model_validator(mode="after")
    def _as_a_section(self) -> "AffinityParams":
        self.section()
        return self

    def section(self) -> MasksConfig:
        """The section ``masks`` with these settings."""
        return MasksConfig(
            topk=self.topk,
            max_masks=self.masks,
            affinity=AffinityConfig(center=self.center),
            further=FurtherMasksConfig(
                min_area=self.min_area, max_area=self.max_area, max_overlap=self.max_overlap
            ),
        )


@mask_rule("affinity", AffinityParams, most="masks")
def affinity_masks(image: "ImageFeatures", params: AffinityParams) -> list[PatchMask]:
    """The paper's rule by name, with one mask or several."""
    return distilled_masks(image, params.section())
