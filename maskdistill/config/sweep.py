"""Section ``sweep`` of the configuration."""

from pydantic import Field

from maskdistill.config.pseudo_labels import LabelType
from maskdistill.config.self_training import Rounds
from maskdistill.config.types import Distinct, Fraction, Positive, Section, Share


class SweepConfig(Section):
    """Further values of settings; their results are made in addition to the main ones."""

    topk: Distinct[Share] = Field([], description="further values of masks.topk")
    num_clusters: Distinct[Positive] = Field([], description="further values of clusters.num_clusters")
    rounds: Distinct[Rounds] = Field([], description="further values of detector.rounds")
    tau: Distinct[Fraction] = Field([], description="further values of pseudo_labels.tau")
    hard_pixels: Distinct[Share] = Field([], description="further values of segmenter.hard_pixels")
    label_types: Distinct[LabelType] = Field([], description="further values of pseudo_labels.type")
