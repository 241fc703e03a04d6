"""Section ``bench`` of the configuration."""

from typing import Literal

from pydantic import Field

from maskdistill.config.masks import BaselineName
from maskdistill.config.paths import UserPath
from maskdistill.config.self_training import Rounds
from maskdistill.config.types import Distinct, DistinctSome, Examples, Section

BenchStage = Literal["masks", "detector", "segmenter"]


class BenchConfig(Section):
    """What the target ``snakemake bench`` compares on the run's own features, all else being the run's."""

    rules: Distinct[BaselineName] = Field(
        ["attention-0.75", "lost-400", "tokencut", "maskcut", "affinity-masks3"],
        description="names of mask rules beside the run's own [docs/reference/mask-rules.md]",
    )
    stages: DistinctSome[BenchStage] = Field(
        ["masks", "detector", "segmenter"],
        description="what is scored of each rule; a detector and a segmenter are trained for each, without "
        "CRF rounds",
    )
    rounds: Distinct[Rounds] = Field([], description="further values of detector.rounds for every rule")
    examples: Examples = Field(4, description="images pictured")
    beside: Distinct[UserPath] = Field(
        [],
        description="bench.json of other runs, such as those of other backbones, whose rows stand beside; "
        "of the same evaluation pictures",
    )
