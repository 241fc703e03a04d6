"""Section ``report`` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field

from maskdistill.config.types import NUMBER, Examples, Section


class ReportConfig(Section):
    """The page that shows it all, and the page of all objects."""

    examples: Examples = Field(12, description="images in the montage")
    per_cluster: Examples = Field(8, description="examples a cluster")
    objects: Annotated[int, Field(ge=1, le=100_000), NUMBER] = Field(
        20_000,
        description="objects on the page of all objects at most; of more the most confident four fifths of "
        "this number and a sample of the others",
    )
    detection: bool = Field(
        False,
        description="a table of AP and AR of all objects whatever their category, as CutLER and others "
        "publish them",
    )
    object_side: Literal[64, 96, 128, 192] = Field(
        96, description="side of an object's thumbnail there, pixels"
    )
