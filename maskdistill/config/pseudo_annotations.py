"""Section ``pseudo_annotations`` of the configuration."""

from pydantic import Field

from maskdistill.config.types import Section, Share


class PseudoAnnotationsConfig(Section):
    """Which masks the detector learns from, each with its cluster as the category [P §3.3]."""

    keep: Share = Field(
        1.0,
        description="share of the training images' masks that is kept: those nearest to their centroids. "
        "The rest, oddly shaped or between two clusters, is left out, beyond the paper. Set "
        "detector.drop_loss along with it",
    )
