"""Section ``bench`` of the configuration."""

from typing import Literal

from pydantic import Field

from maskdistill.config.masks import BaselineName
from maskdistill.config.paths import UserPath
from maskdistill.config.self_training import Rounds
from maskdistill.config.types import Distinct, DistinctSome, Examples, Section

BenchStage = Literal["masks", "detector", "segmenter"]


class BenchConfig(Section):
    """What the target ``snakemake bench`` compares on the run's features; all other settings are the
    run's.
    """

    rules: Distinct[BaselineName] = Field(
        ["attention-0.75", "lost-400", "tokencut", "maskcut", "affinity-masks3"],
        description="mask rules to compare with the run's own [docs/reference/mask-rules.md]",
    )
    stages: DistinctSome[BenchStage] = Field(
        ["masks", "detector", "segmenter"],
        description="stages to score for each rule; detector and segmenter are trained for every rule, "
        "without CRF rounds",
    )
    rounds: Distinct[Rounds] = Field([], description="further values of detector.rounds for every rule")
    examples: Examples = Field(4, description="number of images shown")
    beside: Distinct[UserPath] = Field(
        [],
        description="bench.json files of other runs, for example with other backbones, whose rows are added "
        "to the table; they must have the same evaluation pictures",
    )
