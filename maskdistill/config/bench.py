"""Section ``bench`` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from maskdistill.config.backbone import BackboneConfig
from maskdistill.config.masks import BaselineName
from maskdistill.config.paths import UserPath
from maskdistill.config.self_training import Rounds
from maskdistill.config.types import Distinct, DistinctSome, Examples, Section

BenchStage = Literal["masks", "detector", "segmenter"]
BenchBackbone = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=50)]
"""Name of a backbone of the bench; it stands behind an @ in names of folders below results/<run>/."""


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
    backbones: dict[BenchBackbone, BackboneConfig] = Field(
        {},
        max_length=100,
        description="further backbones, by a name of your choice, on whose features every rule is compared "
        "too; each has the fields of section backbone. Their masks are clustered with the run's own network",
    )
    rounds: Distinct[Rounds] = Field([], description="further values of detector.rounds for every rule")
    examples: Examples = Field(4, description="number of images shown")
    beside: Distinct[UserPath] = Field(
        [],
        description="bench.json files of other runs, for example of other features or clusters, whose rows "
        "are added to the table; they must have the same evaluation pictures",
    )

    @field_validator("backbones")
    @classmethod
    def _there_already(cls, values: dict[str, BackboneConfig]) -> dict[str, BackboneConfig]:
        for name, network in values.items():
            if network.weights == "pretrain":
                raise ValueError(
                    f"{name}.weights: the bench trains no backbone; give a checkpoint, for example another "
                    "run's results/NAME/pretrain/backbone.safetensors"
                )
        return values
