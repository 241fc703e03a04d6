"""Section ``evaluation`` of the configuration."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from maskdistill.config.types import NUMBER, Distinct, Section

Protocol = Literal["agnostic_multi", "semantic_multi", "semantic_single", "semantic_single_strict"]
"""Whose categories and which objects count for instance AP [P §A.4]; see maskdistill.evaluation.protocols."""
Resamples = Annotated[int, Field(ge=0, le=1_000_000), NUMBER]


class EvaluationConfig(Section):
    """Scores against ground truth; the only stages that read it [P §4, §A.3, §A.4]."""

    matching: Literal["iou", "bg_fixed"] = Field(
        "iou", description="Hungarian over all classes, or 0 fixed to 0"
    )
    bootstrap: Resamples = Field(200, description="resamples of the images for the intervals; 0: none")
    protocols: Distinct[Protocol] = Field(
        list(get_args(Protocol)),
        description="which instance AP [P Table 3] is scored where there are detections",
    )
