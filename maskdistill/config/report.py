"""Section ``report`` of the configuration."""

from pydantic import Field

from maskdistill.config.types import Examples, Section


class ReportConfig(Section):
    """The page that shows it all."""

    examples: Examples = Field(12, description="images in the montage")
    per_cluster: Examples = Field(8, description="examples a cluster")
