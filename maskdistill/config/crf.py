"""Section ``crf`` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field

from maskdistill.config.types import NUMBER, Rounds, Section, Spread

MeanFields = Annotated[int, Field(ge=1, le=1000), NUMBER]
Weight = Annotated[float, Field(ge=0, le=10_000), NUMBER]


class GaussianConfig(Section):
    """Pairwise term of the dense CRF for pixels that are close to each other."""

    sxy: Spread = Field(1.0, description="standard deviation in pixels")
    compat: Weight = Field(3.0, description="weight")


class BilateralConfig(Section):
    """Pairwise term of the dense CRF for pixels that are close to each other and of similar colour."""

    sxy: Spread = Field(67.0, description="standard deviation in pixels")
    srgb: Spread = Field(3.0, description="standard deviation of each colour channel, of 256 levels")
    compat: Weight = Field(4.0, description="weight")


class CrfConfig(Section):
    """Rounds of training on the segmenter's own predictions, sharpened by a dense CRF [P §B]."""

    rounds: Rounds = Field(
        1,
        description="number of further segmenters, each trained on the refined predictions of the one "
        "before; the last is the run's result",
    )
    iters: MeanFields = Field(10, description="mean-field iterations")
    channels: Literal["rgb", "bgr"] = Field(
        "rgb",
        description="order of the picture's colour channels; bgr: as in the released code. The library's "
        "filter is approximate, so some 0.3 % of the pixels differ between the two",
    )
    gaussian: GaussianConfig = GaussianConfig()
    bilateral: BilateralConfig = BilateralConfig()
