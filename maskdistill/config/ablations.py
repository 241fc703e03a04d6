"""Section ``ablations`` of the configuration."""

from pydantic import Field

from maskdistill.config.pseudo_labels import LabelType
from maskdistill.config.types import DistinctSome, Examples, Rounds, Section, Seed, Share


class AblationsConfig(Section):
    """What the target ``snakemake ablations`` compares; all other settings are the run's [P Table 1, Table
    S1].
    """

    seeds: DistinctSome[Seed] = Field([1234, 1235, 1236], description="rows are means over these")
    label_types: DistinctSome[LabelType] = Field(
        ["bbox", "grabcut", "mask"], description="values of pseudo_labels.type"
    )
    hard_pixels: DistinctSome[Share] = Field(
        [1.0, 0.2], description="values of segmenter.hard_pixels; 1: all pixels"
    )
    crf_rounds: Rounds = Field(2, description="rounds 0 to this one, each with and without a last CRF")
    examples: Examples = Field(6, description="number of images shown")
