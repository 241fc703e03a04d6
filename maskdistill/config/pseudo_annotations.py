"""Section ``pseudo_annotations`` of the configuration."""

from pydantic import Field

from maskdistill.config.types import Section, Share


class PseudoAnnotationsConfig(Section):
    """Which masks the detector learns from, each with its cluster as the category [P §3.3]."""

    keep: Share = Field(
        1.0,
        description="share of the training images' masks, those nearest to their centroids; the rest, oddly "
        "shaped or between two clusters, is left out, beyond the paper. Set detector.drop_loss beside it",
    )
