"""Section ``evaluation`` of the configuration."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from maskdistill.config.types import NUMBER, Distinct, Section

Protocol = Literal["agnostic_multi", "semantic_multi", "semantic_single", "semantic_single_strict"]
"""Which categories and objects count for instance AP [P §A.4]; see maskdistill.evaluation.protocols."""
Resamples = Annotated[int, Field(ge=0, le=1_000_000), NUMBER]


class EvaluationConfig(Section):
    """Scores against ground truth; only stages that score read it [P §4, §A.3, §A.4]."""

    matching: Literal["iou", "bg_fixed"] = Field(
        "iou",
        description="iou: Hungarian matching over all classes; bg_fixed: label 0 is background, the "
        "others are matched",
    )
    bootstrap: Resamples = Field(
        200, description="resamples of the images for confidence intervals; 0: no intervals"
    )
    protocols: Distinct[Protocol] = Field(
        list(get_args(Protocol)),
        description="protocols of instance AP [P Table 3] by which detections are scored",
    )
