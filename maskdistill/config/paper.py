"""Section ``paper`` of the configuration: what the targets that rebuild the paper's tables and figures
compute.
"""

from typing import Annotated

from pydantic import Field, field_validator

from maskdistill.backbones.registry import ResNetName
from maskdistill.config.masks import BaselineName
from maskdistill.config.paths import UserPath
from maskdistill.config.pseudo_labels import LabelType
from maskdistill.config.types import NUMBER, DistinctSome, Examples, Positive, Rounds, Section, Seed, Share


class FrozenBackbone(Section):
    """A row of Table 2 for a pre-trained ResNet without further training: linear probe and K-means of its
    features.
    """

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$",
        description="row of Table 2, e.g. MoCo, SwAV, InfoMin; another name adds a row",
    )
    arch: ResNetName = Field("resnet50", description="architecture of the ResNet")
    weights: UserPath = Field(description="path of a ResNet checkpoint, as for segmenter.weights")

    @property
    def folder(self) -> str:
        """The name as used in paths."""
        return self.name.replace(" ", "-")


class PaperConfig(Section):
    """What table1 ... figure5 and qualitative compute; all other settings are the run's [P Tables 1-3, S1,
    S2].
    """

    seeds: DistinctSome[Seed] = Field(
        [1234, 1235, 1236, 1237, 1238],
        description="scores are means over these, five in the paper [P §A.4]",
    )
    hard_pixels: Share = Field(
        0.2, description="Table 1: share of hard pixels; it is compared with training on all pixels"
    )
    label_types: DistinctSome[LabelType] = Field(
        ["bbox", "grabcut", "mask"], description="Table S1: values of pseudo_labels.type"
    )
    crf_rounds: Rounds = Field(
        1,
        description="CRF rounds for the rows with CRF; the paper does not say how many. 0: leave these rows "
        "out",
    )
    backbones: list[FrozenBackbone] = Field(
        [],
        max_length=1000,
        description="Table 2: frozen backbones whose rows are computed; other rows show the published "
        "values only",
    )
    dino_masks: BaselineName = Field(
        "attention-0.75", description="Table 3, row DINO: attention-MASS or attention-MASS-largest"
    )
    lost_masks: BaselineName = Field("lost-400", description="Table 3, row LOST: lost-K")
    overcluster: DistinctSome[Positive] = Field(
        [1, 2, 3, 5, 8], description="Figure 3: clusters for each of clusters.num_clusters"
    )
    topk: DistinctSome[Share] = Field(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], description="Figure 4: values of masks.topk"
    )
    tau: DistinctSome[Annotated[float, Field(ge=0, lt=1), NUMBER]] = Field(
        [0.0, 0.25, 0.5, 0.75, 0.9, 0.95], description="Figure 5: values of pseudo_labels.tau"
    )
    examples: Examples = Field(8, description="images in the grid of the target qualitative")

    @field_validator("backbones")
    @classmethod
    def _apart(cls, values: list[FrozenBackbone]) -> list[FrozenBackbone]:
        if len({backbone.folder for backbone in values}) < len(values):
            raise ValueError("two backbones have the same name; a name is a row and a folder")
        return values
