"""Section ``oracle`` of the configuration."""

from typing import Literal

from pydantic import Field

from maskdistill.config.types import DistinctSome, Section

OracleCase = Literal["masks", "objects", "categories", "annotations", "labels"]


class OracleConfig(Section):
    """What the target ``snakemake oracle`` replaces by the ground truth, one at a time; all else is the
    run's.
    """

    cases: DistinctSome[OracleCase] = Field(
        ["masks", "objects", "categories", "annotations", "labels"],
        description="masks: for each found mask the exact one of the object that it overlaps best; objects: "
        "exact masks of all objects; categories: found masks with the true category of that object; "
        "annotations: exact masks and true categories of all objects; labels: true label maps for the "
        "segmenter",
    )
