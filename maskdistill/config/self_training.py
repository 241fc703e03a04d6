"""Settings of self-training, part of the section ``detector``."""

from typing import Annotated

from pydantic import Field

from maskdistill.config.types import NUMBER, Fraction, Section

Rounds = Annotated[int, Field(ge=0, le=100), NUMBER]


class SelfTrainingConfig(Section):
    """Rounds of self-training as in CutLER (Wang et al. 2023, §3.3); the paper has none."""

    rounds: Rounds = Field(
        0,
        description="rounds of self-training: each trains the detector further, for iters steps, on its own "
        "confident candidates and on earlier masks that none of these covers, as in CutLER; 0: none, as in "
        "the paper",
    )
    round_score: Fraction = Field(
        0.75,
        description="lowest score of a candidate that the next round learns from; CutLER's value for its "
        "first round",
    )
    round_overlap: Fraction = Field(
        0.5,
        description="a mask of the round before is kept unless such a candidate overlaps it with a larger "
        "IoU; CutLER's value",
    )
