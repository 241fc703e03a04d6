"""Of the section ``detector`` what its rounds of self-training learn from."""

from typing import Annotated

from pydantic import Field

from maskdistill.config.types import NUMBER, Fraction, Section

Rounds = Annotated[int, Field(ge=0, le=100), NUMBER]


class SelfTrainingConfig(Section):
    """Rounds of self-training, as CutLER has them (Wang et al. 2023, §3.3); the paper has none."""

    rounds: Rounds = Field(
        0,
        description="rounds of self-training: each trains a fresh detector on what the one before it is sure "
        "of, and on the masks that this leaves over, as CutLER does; 0: none, as in the paper",
    )
    round_score: Fraction = Field(
        0.75,
        description="candidates of at least this score are learnt in the next round; CutLER's in its first "
        "one",
    )
    round_overlap: Fraction = Field(
        0.5,
        description="masks of the round before are learnt again but those that such a candidate overlaps with"
        " a larger IoU; CutLER's",
    )
