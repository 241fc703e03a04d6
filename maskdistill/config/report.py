"""Section ``report`` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field

from maskdistill.config.types import NUMBER, Examples, Section


class ReportConfig(Section):
    """The report, and the page of all objects."""

    examples: Examples = Field(12, description="number of images in the montage")
    per_cluster: Examples = Field(8, description="examples per cluster")
    objects: Annotated[int, Field(ge=1, le=100_000), NUMBER] = Field(
        20_000,
        description="largest number of objects on the page of all objects; if there are more, four fifths "
        "of it are the most confident ones and the rest a sample of the others",
    )
    detection: bool = Field(
        False,
        description="add a table with class-agnostic AP and AR, as CutLER and others publish them",
    )
    object_side: Literal[64, 96, 128, 192] = Field(
        96, description="side of a thumbnail on the page of all objects, in pixels"
    )
