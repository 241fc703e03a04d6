"""Sections ``masks`` and ``baselines`` of the configuration: rules that turn features into masks."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from maskdistill.config.types import NUMBER, Distinct, Fraction, Section, Share
from maskdistill.masks import registry


class _Names:
    """JSON schema of a mask rule's name, built on demand, when all rules are registered.

    Args:
        paper: take the paper's rule too.
    """

    def __init__(self, paper: bool = False) -> None:
        self.paper = paper

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        own = [registry.PAPER] if self.paper else []
        forms, pattern = " or ".join(own + registry.forms()), "|".join([*own, registry.names_pattern()])
        return handler(schema) | {"description": forms, "pattern": f"^({pattern})$"}


def _rule(name: str) -> str:
    return name if name == registry.PAPER else registry.check_name(name)


BaselineName = Annotated[str, AfterValidator(registry.check_name), _Names()]
"""Name of a mask rule with its settings; also the name of its folder below results/<run>/."""
RuleName = Annotated[str, AfterValidator(_rule), _Names(paper=True)]
Masks = Annotated[int, Field(ge=1, le=100), NUMBER]
Heads = Annotated[int, Field(ge=1, le=1024), NUMBER]


class AffinityConfig(Section):
    """The affinity graph between patches [P §3.2 Eq. 1]."""

    center: bool = Field(False, description="subtract the image's mean key first")


class FurtherMasksConfig(Section):
    """When the search for further masks in an image stops (maskdistill.masks), if max_masks is above 1."""

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
    def _some_area_between(self) -> "FurtherMasksConfig":
        if self.min_area > self.max_area:
            raise ValueError(
                f"min_area {self.min_area:g} is above max_area {self.max_area:g}: no mask would be taken"
            )
        return self


class MasksConfig(Section):
    """Object masks from the affinity graph; one per image in the paper [P §3.2 Eq. 1-2]."""

    topk: Share = Field(0.4, description="share of patches taken as candidates [P §4.1]")
    cls_heads: Heads | None = Field(None, description="use the first n heads for the CLS affinity; null: all")
    cls_mass: Share | None = Field(
        None,
        description="keep the largest CLS affinities that make up this share of their sum, and set the rest "
        "to 0; ties in the order of torch.topk; null: off",
    )
    component: Literal["source_4conn", "all"] = Field(
        "source_4conn", description="keep only the connected component that contains the source patch"
    )
    resize_mask: Literal["nearest", "bicubic_nonzero"] = Field(
        "nearest", description="resampling of the mask to full size"
    )
    refine: Literal["none", "grabcut"] = Field(
        "none",
        description="none: outlines follow the patches; grabcut: OpenCV's GrabCut, started from each mask, "
        "finds the object's outline, beyond the paper",
    )
    affinity: AffinityConfig = AffinityConfig()
    max_masks: Masks = Field(1, description="largest number of masks per image; above 1 is beyond the paper")
    further: FurtherMasksConfig = FurtherMasksConfig()
    rule: RuleName = Field(
        registry.PAPER,
        description="maskdistill: the paper's rule, with the settings above; another rule, by name, uses "
        "only resize_mask and refine of them [docs/reference/mask-rules.md]",
    )

    @property
    def by_paper(self) -> bool:
        """Whether the rule is the paper's."""
        return self.rule == registry.PAPER

    @property
    def most(self) -> int:
        """Largest number of masks per image."""
        return self.max_masks if self.by_paper else registry.read(self.rule).most


class BaselinesConfig(Section):
    """Simpler mask rules on the same features, scored together with the main masks [P Table 3, §A.4]."""

    masks: Distinct[BaselineName] = Field(
        [],
        description="names of mask rules, such as lost-400, attention-0.75 and tokencut "
        "[docs/reference/mask-rules.md]",
    )
